# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Logits of a few given tokens: rows of the output head, multiplied as the full head multiplies them."""
import numpy as np

from libc.stdint cimport int32_t, int64_t
from ryzanstein_llm.kernels.cpu cimport kernels
from ryzanstein_llm.kernels.inputs cimport Input, describe_input
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_NORM, OP_HEAD_RESCORE, Workspace

from ryzanstein_llm.kernels import packing

cdef enum:
    TASK_ROWS = 32


def row_logits(const float[:, ::1] hidden, norm, float eps, weights, kind, ids, Workspace workspace):
    """Logits of given rows of a float matrix.

    Parameters
    ----------
    hidden : float32 (n, columns)                                             # IN
    norm : float32 (columns,) or None: the RMSNorm before, with eps           # IN
    weights : C-contiguous (rows, columns) in `kind`                          # IN
    kind : "F32", "F16" or "BF16" (the last as uint16)
    ids : n times int64 (m,)
        The rows for each hidden state.

    Returns
    -------
    list of n float32 (m,)
        Equal bit for bit to those of `linear.norm_dense`.

    Raises
    ------
    ValueError
        If an id is not the number of a row, or shapes do not fit.
    """
    cdef Input source
    cdef float[:, ::1] normed
    cdef int32_t[::1] named
    cdef float[::1] named_logits
    cdef int64_t[:, ::1] ranges
    cdef int64_t n = hidden.shape[0], columns = hidden.shape[1]
    cdef NamedRows rows
    cdef NormJob norm_job
    cdef Step steps[2]
    packing.check_floats(weights, kind)
    if weights.shape[1] != columns or len(ids) != n:
        raise ValueError(f"{n} hidden states of {columns} columns and {len(ids)} lists of ids do not fit weights of "
                         f"{weights.shape[1]} columns: each hidden state needs that many columns and one list")
    if any(len(each) and not (each.min() >= 0 and each.max() < weights.shape[0]) for each in ids):
        raise ValueError(f"ids must be from 0 to {weights.shape[0] - 1}, the last of the {weights.shape[0]} rows")
    flat, starts, range_array = rows_by_token(ids, n)
    if not len(flat):
        return [np.empty(0, np.float32) for _ in range(n)]
    describe_input(&source, hidden, norm, eps)
    normed = np.array(hidden)
    named, named_logits, ranges = flat, np.zeros(len(flat), np.float32), range_array
    norm_job = NormJob(&normed[0, 0], source.norm, eps, columns)
    rows = NamedRows(<const void *><size_t>weights.ctypes.data, packing.FLOAT_KINDS[kind], columns, &normed[0, 0],
                     &named[0], &named_logits[0], &ranges[0, 0])
    steps[0] = as_operation(OP_HEAD_NORM, step(norm_task, &norm_job, n if source.norm != NULL else 0))
    steps[1] = as_operation(OP_HEAD_RESCORE, step(named_rows_task, &rows, len(range_array)))
    run_steps(steps, 2, workspace, len(flat) * columns)
    logits = np.asarray(named_logits)
    return [logits[starts[i]:starts[i + 1]] for i in range(n)]


def rows_by_token(ids, n):
    """(all ids, where each list begins in them, ranges). A range is the ids of one task, at most TASK_ROWS, as
    (hidden state, begin, end)."""
    lists = [np.empty(0, np.int64) if ids is None or ids[i] is None else np.asarray(ids[i]) for i in range(n)]
    starts = np.zeros(n + 1, np.int64)
    np.cumsum([len(each) for each in lists], out=starts[1:])
    ranges = [(i, begin, min(begin + TASK_ROWS, int(starts[i + 1])))
              for i in range(n) for begin in range(int(starts[i]), int(starts[i + 1]), TASK_ROWS)]
    return np.concatenate(lists).astype(np.int32), starts, np.array(ranges, np.int64).reshape(-1, 3)


cdef struct NormJob:
    float *x               # (n, columns), normalised in place
    const float *norm
    float eps
    int64_t columns


cdef void norm_task(const void *data, Workspace workspace, int64_t token, int thread) noexcept nogil:
    cdef const NormJob *job = <const NormJob *>data
    cdef float *x = job.x + token * job.columns
    kernels().rms_norm(x, job.norm, job.eps, job.columns, x)


cdef void named_rows_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const NamedRows *job = <const NamedRows *>data
    cdef const int64_t *span = job.ranges + 3 * task
    kernels().dense_rows[job.kind](job.matrix, job.columns, job.ids + span[1], span[2] - span[1],
                                   job.x + span[0] * job.columns, job.logits + span[1])
