# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The input of products: a step that normalises and quantises float activations.

All matrices of an input read the same int8 codes, or the same floats.
"""
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.string cimport memcpy
from ryzanstein_llm.kernels.cpu cimport (
    RZ_GROUP_COLUMNS, RZ_GROUPS, RZ_LAYOUT_TABLES, RZ_TABLES_BYTES, RZ_TABLES_TOKENS, kernels,
    rz_output_mode, rz_ternary)
from ryzanstein_llm.kernels.steps cimport Step, step
from ryzanstein_llm.kernels.ternary_matrix cimport BY_TOKEN, NOT_QUANTIZED, TernaryMatrix
from ryzanstein_llm.kernels.workspace cimport Workspace


cdef int describe_norm(Norm *norm, weights, int64_t columns) except -1:
    """Checks a norm's weights, (columns,) or None, and takes their address. The caller must keep the array."""
    cdef const float[::1] view
    norm.weights = NULL
    if weights is not None:
        view = weights
        if view.shape[0] != columns:
            raise ValueError(f"a norm of {view.shape[0]} weights does not fit {columns} columns")
        norm.weights = &view[0]
    return 0


cdef void set_input(Input *source, const float *x, int64_t n, int64_t columns, Norm norm, float eps) noexcept nogil:
    source.x = x
    source.n = n
    source.columns = columns
    source.norm = norm.weights
    source.second_norm = NULL
    source.eps = eps
    source.needs_tables = False
    source.kind = BY_TOKEN
    source.group_columns = 0


cdef int describe_input(Input *source, const float[:, ::1] x, norm, float eps) except -1:
    """Checks x, (n, columns), and norm, (columns,) or None. `source.quantized` is set after `workspace.reserve`."""
    cdef Norm weights
    describe_norm(&weights, norm, x.shape[1])
    set_input(source, &x[0, 0], x.shape[0], x.shape[1], weights, eps)
    return 0


cdef int64_t scratch_bytes(const Input *source) noexcept nogil:
    """Bytes of scratch that a thread needs to quantise the input and to multiply it."""
    return max(kernels().product_scratch(source.columns, source.n), 4 * source.columns)


cdef int64_t input_groups(const Input *source) noexcept nogil:
    """Number of scales that a token of the input has."""
    return RZ_GROUPS(source.columns, source.group_columns) if source.group_columns else 1


cdef int request_input(Input *source, TernaryMatrix matrix, bint first) except -1:
    """Lets quantize_step write what the product with the matrix reads. All matrices of an input read the same."""
    cdef int64_t group_columns = RZ_GROUP_COLUMNS(matrix.matrix.layout)
    if matrix.matrix.columns != source.columns:
        raise ValueError(f"{matrix!r} does not fit an input of {source.columns} columns")
    if first:
        source.kind, source.group_columns = matrix.input_kind, group_columns
    elif source.kind != matrix.input_kind or source.group_columns != group_columns:
        raise ValueError(f"{matrix!r} needs another quantisation of its input than the matrices before it")
    if matrix.matrix.layout == RZ_LAYOUT_TABLES and source.n <= RZ_TABLES_TOKENS and kernels().ternary_tables != NULL:
        source.needs_tables = True
    return 0


cdef void quantize_groups(const Input *source, const float *x, int8_t *codes, float *scales,
                          int32_t *sums) noexcept nogil:
    """int8 codes of a token, and a scale and a sum for each group. BY_TOKEN: all scales are that of the token."""
    cdef int64_t group, groups = input_groups(source), wide = source.group_columns, first, i
    cdef int64_t end = source.quantized.stride
    if source.kind == BY_TOKEN:
        kernels().quantize(x, source.columns, end, codes, scales, sums)
        for group in range(groups):
            scales[group] = scales[0]
            sums[group] = 0
            for i in range(group * wide, min((group + 1) * wide, source.columns)):
                sums[group] += codes[i]
        return
    for group in range(groups):
        first = group * wide
        kernels().quantize(x + first, min(wide, source.columns - first), end - first if group + 1 == groups else wide,
                           codes + first, scales + group, sums + group)


cdef const float *normalize(const Input *source, const float *x, float *scratch) noexcept nogil:
    """x after the norms of the input: in scratch, or where it was if there is none."""
    if source.norm != NULL:
        kernels().rms_norm(x, source.norm, source.eps, source.columns, scratch)
        x = scratch
    if source.second_norm != NULL:
        kernels().rms_norm(x, source.second_norm, source.eps, source.columns, scratch)
        x = scratch
    return x


cdef void quantize_task(const void *job, Workspace workspace, int64_t token, int thread) noexcept nogil:
    cdef const Input *source = <const Input *>job
    cdef const float *x = source.x + token * source.columns
    cdef float *floats = workspace.floats + token * source.columns
    cdef int8_t *codes = workspace.codes + token * source.quantized.stride
    cdef int64_t groups = input_groups(source)
    if source.kind == NOT_QUANTIZED:
        x = normalize(source, x, floats)
        if x != floats:
            memcpy(floats, x, source.columns * sizeof(float))
        return
    x = normalize(source, x, <float *>workspace.thread_scratch(thread))
    if source.group_columns:
        quantize_groups(source, x, codes, workspace.scales + token * groups, workspace.sums + token * groups)
        return
    kernels().quantize(x, source.columns, source.quantized.stride, codes, workspace.scales + token,
                       workspace.sums + token)
    if source.needs_tables:
        kernels().ternary_tables(codes, source.columns, workspace.tables + token * RZ_TABLES_BYTES(source.columns))


cdef void include_input(Reservation *needed, const Input *source) noexcept nogil:
    """Adds what an input needs; all fields begin at 0."""
    needed.columns = max(needed.columns, source.columns)
    needed.groups = max(needed.groups, input_groups(source))
    needed.floats = needed.floats or source.kind == NOT_QUANTIZED


cdef int reserve_inputs(Workspace workspace, int64_t tokens, const Reservation *needed, int64_t scratch) except -1:
    """Makes room in the workspace for inputs of one pass, and for scratch of each thread."""
    return workspace.reserve(tokens, needed.columns, scratch, needed.groups, needed.floats)


cdef void place_input(Workspace workspace, Input *source) noexcept nogil:
    """Sets `source.quantized` to its place in the workspace, after all reservations."""
    source.quantized = workspace.activations(source.n, source.columns, input_groups(source))
    source.floats = workspace.floats


cdef void multiply(const rz_ternary *matrix, int64_t tile, int64_t end, const Input *source, float *out,
                   int64_t out_stride, rz_output_mode store, void *scratch) noexcept nogil:
    """Rows of the row tiles [tile, end) of a product with a quantised input."""
    if source.group_columns == 0:
        kernels().ternary_matmul(matrix, tile, end, &source.quantized, out, out_stride, store, scratch)
    elif source.kind == NOT_QUANTIZED:
        kernels().group_matmul_floats(matrix, tile, end, source.floats, source.columns, source.n, out, out_stride,
                                      store, scratch)
    else:
        kernels().group_matmul(matrix, tile, end, &source.quantized, out, out_stride, store, scratch)


cdef Input tokens_of(const Input *source, int64_t first, int64_t end) noexcept nogil:
    """The tokens [first, end) of a quantised input, for products without tables."""
    cdef Input part = source[0]
    cdef int64_t groups = input_groups(source)
    part.n = part.quantized.n = end - first
    part.quantized.codes += first * part.quantized.stride
    part.quantized.scales += first * groups
    part.quantized.sums += first * groups
    part.quantized.tables = NULL
    part.floats += first * part.columns
    return part


cdef Step quantize_step(const Input *source) noexcept nogil:
    """One task for each token: normalises it, and writes int8 codes and tables to the workspace."""
    return step(quantize_task, source, source.n)
