# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Steps of a feed-forward block that skip the weights which squared ReLU multiplies by zero.

relu2(gate) * up is zero if gate <= 0, so that row of `up` need not be read. If an int8 activation is zero,
that column of `down` need not be read either. Integer sums stay the same, so results equal those of the
dense steps bit for bit.

This pays only for the tokens of decoding: in a prompt, some token needs each row. Tiers differ in how many tokens it
pays for, with rows and with columns (row_tokens and column_tokens of kernels.h). Each thread has its own sums over
columns. At the end they are added as integers, so their order does not matter.
"""
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memset
from ryzanstein_llm.kernels.cpu cimport (
    RZ_LAYOUT_COLUMNS, RZ_LAYOUT_ROWS, RZ_LAYOUT_TRIT_COLUMNS, RZ_LAYOUT_TRIT_ROWS, RZ_LINE_SUMS,
    RZ_LIST_STEP, RZ_PANEL_TILES, RZ_STORE_SET, kernels, rz_activations)
from ryzanstein_llm.kernels.inputs cimport multiply
from ryzanstein_llm.kernels.linear cimport PANEL_ROWS, Gated, Projections
from ryzanstein_llm.kernels.steps cimport Step, as_operation, step
from ryzanstein_llm.kernels.workspace cimport OP_DOWN, OP_GATE, OP_UP, Workspace

cdef extern from "ryzanstein/active.h" nogil:
    int64_t rz_active_rows(const float *, int64_t, int64_t, int64_t, int64_t, int32_t *)
    int64_t rz_active_columns(const rz_activations *, int64_t, int64_t, int32_t *, int8_t *, int64_t)

cdef enum:
    RELU2 = 0             # in linear.ACTIVATIONS
    TASKS_PER_THREAD = 2
    MAX_THREADS = 1024    # the largest number that choose_threads allows


cdef int64_t block_size(int64_t runs, int threads) noexcept nogil:
    """Number of rows or columns in a task. Tasks are few and large, because each begins by waiting for
    memory: the task before it had nothing left to prefetch at the end of its list."""
    cdef int64_t size = (runs + TASKS_PER_THREAD * threads - 1) // (TASKS_PER_THREAD * threads)
    return (size + PANEL_ROWS - 1) // PANEL_ROWS * PANEL_ROWS


cdef int64_t blocks(int64_t runs, int threads) noexcept nogil:
    cdef int64_t size = block_size(runs, threads)
    return (runs + size - 1) // size


cdef bint can_skip_rows(const Gated *job) noexcept nogil:
    """Whether rows_skipping_steps can compute this job."""
    if job.activation != RELU2 or job.input.n > kernels().row_tokens:
        return False
    return job.up.layout in (RZ_LAYOUT_ROWS, RZ_LAYOUT_TRIT_ROWS)


cdef void gate_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Gated *job = <const Gated *>data
    cdef int64_t tile = task * RZ_PANEL_TILES, end = min(tile + RZ_PANEL_TILES, job.gate.row_tiles)
    multiply(job.gate, tile, end, job.input, job.out, job.gate.rows, RZ_STORE_SET, workspace.thread_scratch(thread))


cdef void up_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Gated *job = <const Gated *>data
    cdef int64_t n = job.input.n, t, rows = job.gate.rows, count
    cdef int64_t block = block_size(rows, workspace.n_threads), first = task * block, end = min(first + block, rows)
    cdef int32_t *open_rows = <int32_t *>workspace.thread_scratch(thread)
    cdef float *up = <float *>(open_rows + block)
    cdef float *gate
    count = rz_active_rows(job.out, rows, n, first, end, open_rows)
    memset(up, 0, n * block * sizeof(float))
    kernels().ternary_rows(job.up, open_rows, count, &job.input.quantized, up - first, block)
    for t in range(n):
        gate = job.out + t * rows + first
        kernels().activate_gated[job.activation](gate, up + t * block, end - first, gate)
    workspace.states[thread].rows_seen += end - first
    workspace.states[thread].rows_read += count


cdef int64_t rows_scratch_bytes(const Gated *job, int threads) noexcept nogil:
    """Bytes of scratch of a thread: a list of rows, and their results."""
    return 4 * block_size(job.gate.rows, threads) * (1 + job.input.n)


cdef void rows_skipping_steps(const Gated *job, int threads, Step *steps) noexcept nogil:
    """Two steps in place of linear.gated_step: `gate`, then the rows of `up` whose gate is not <= 0."""
    steps[0] = as_operation(OP_GATE, step(gate_task, job, (job.gate.row_tiles + RZ_PANEL_TILES - 1) // RZ_PANEL_TILES))
    steps[1] = as_operation(OP_UP, step(up_task, job, blocks(job.gate.rows, threads)))


cdef bint can_skip_columns(const Projections *job) noexcept nogil:
    """Whether columns_skipping_steps can compute this job."""
    if job.count != 1 or job.bias[0] != NULL or job.input.n > kernels().column_tokens:
        return False
    return job.matrices[0].layout in (RZ_LAYOUT_COLUMNS, RZ_LAYOUT_TRIT_COLUMNS)


cdef int64_t sums_bytes(const Projections *job) noexcept nogil:
    return 4 * job.input.n * RZ_LINE_SUMS * job.matrices[0].run_lines


cdef int64_t columns_scratch_bytes(const Projections *job, int threads) noexcept nogil:
    """Bytes of scratch of a thread: sums, a list of columns, and their activations."""
    return sums_bytes(job) + (4 + job.input.n) * (block_size(job.input.columns, threads) + RZ_LIST_STEP)


cdef void columns_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Projections *job = <const Projections *>data
    cdef int64_t block = block_size(job.input.columns, workspace.n_threads), room = block + RZ_LIST_STEP
    cdef int64_t begin = task * block, end = min(begin + block, job.input.columns), count
    cdef int32_t *sums = <int32_t *>workspace.thread_scratch(thread)
    cdef int32_t *columns = <int32_t *>(<uint8_t *>sums + sums_bytes(job))
    cdef int8_t *values = <int8_t *>(columns + room)
    if workspace.states[thread].sums_job != data:
        workspace.states[thread].sums_job = data
        memset(sums, 0, sums_bytes(job))
    count = rz_active_columns(&job.input.quantized, begin, end, columns, values, room)
    kernels().ternary_columns(job.matrices[0], columns, (count + RZ_LIST_STEP - 1) // RZ_LIST_STEP * RZ_LIST_STEP,
                              values, room, job.input.n, sums)
    workspace.states[thread].columns_seen += end - begin
    workspace.states[thread].columns_read += count


cdef void finish_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Projections *job = <const Projections *>data
    cdef const int32_t *sums[MAX_THREADS]
    cdef int64_t parts = 0, begin = task * PANEL_ROWS, t
    cdef int other
    for other in range(workspace.n_threads):
        if workspace.states[other].sums_job == data:
            sums[parts] = <const int32_t *>workspace.thread_scratch(other)
            parts += 1
    for t in range(job.input.n):
        kernels().ternary_columns_finish(
            job.matrices[0], sums, parts, &job.input.quantized, t, begin,
            min(begin + PANEL_ROWS, job.matrices[0].rows), job.out[0] + t * job.out_stride[0], job.store)


cdef void columns_skipping_steps(const Projections *job, int threads, Step *steps) noexcept nogil:
    """Two steps in place of linear.project_step: each thread's sums over columns whose activation is not
    zero, then the total of all threads."""
    steps[0] = as_operation(OP_DOWN, step(columns_task, job, blocks(job.input.columns, threads)))
    steps[1] = as_operation(OP_DOWN, step(finish_task, job, (job.matrices[0].rows + PANEL_ROWS - 1) // PANEL_ROWS))
