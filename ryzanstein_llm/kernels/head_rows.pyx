# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Logits of named tokens only: a few rows of the output head, by the dot product of the full head."""
import numpy as np

from libc.stdint cimport int32_t, int64_t
from ryzanstein_llm.kernels.cpu cimport kernels
from ryzanstein_llm.kernels.linear cimport Input, read_input
from ryzanstein_llm.kernels.steps cimport Step, of, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_NORM, OP_HEAD_RESCORE, Workspace

from ryzanstein_llm.kernels import packing

cdef enum:
    TASK_ROWS = 32


def row_logits(const float[:, ::1] hidden, norm, float eps, weights, kind, ids, Workspace space):
    """Logits of named rows of a float matrix.

    Parameters
    ----------
    hidden : float32 (n, columns)                                             # IN
    norm : float32 (columns,) or None, with eps: an RMSNorm before            # IN
    weights : C-contiguous (rows, columns) in `kind`                          # IN
    kind : "F32", "F16" or "BF16" (the last as uint16)
    ids : n times int64 (m,)
        Rows for each hidden state.

    Returns
    -------
    list of n float32 (m,)
        Equal bit for bit to those of `linear.norm_dense`.

    Raises
    ------
    ValueError
        If there is no row for an id, or the shapes do not fit.
    """
    cdef Input source
    cdef float[:, ::1] normed
    cdef int32_t[::1] named
    cdef float[::1] named_logits
    cdef int64_t[:, ::1] shares
    cdef int64_t n = hidden.shape[0], columns = hidden.shape[1]
    cdef NamedRows rows
    cdef Norming norming
    cdef Step steps[2]
    packing.check_floats(weights, kind)
    if weights.shape[1] != columns or len(ids) != n:
        raise ValueError(f"{n} hidden states of {columns} and {len(ids)} lists of ids for rows of {weights.shape[1]}")
    if any(len(each) and not (each.min() >= 0 and each.max() < weights.shape[0]) for each in ids):
        raise ValueError(f"ids beyond the {weights.shape[0]} rows")
    flat, starts, share_array = rows_by_token(ids, n)
    if not len(flat):
        return [np.empty(0, np.float32) for _ in range(n)]
    read_input(&source, hidden, norm, eps)
    normed = np.array(hidden)
    named, named_logits, shares = flat, np.zeros(len(flat), np.float32), share_array
    norming = Norming(&normed[0, 0], source.norm, eps, columns)
    rows = NamedRows(<const void *><size_t>weights.ctypes.data, packing.FLOAT_KINDS[kind], columns, &normed[0, 0],
                     &named[0], &named_logits[0], &shares[0, 0])
    steps[0] = of(OP_HEAD_NORM, step(norm_task, &norming, n if source.norm != NULL else 0))
    steps[1] = of(OP_HEAD_RESCORE, step(named_rows_task, &rows, len(share_array)))
    run_steps(steps, 2, space, len(flat) * columns)
    logits = np.asarray(named_logits)
    return [logits[starts[i]:starts[i + 1]] for i in range(n)]


def rows_by_token(ids, n):
    """(all ids, where each list begins in them, tasks of at most TASK_ROWS as (hidden state, begin, end))."""
    lists = [np.empty(0, np.int64) if ids is None or ids[i] is None else np.asarray(ids[i]) for i in range(n)]
    starts = np.zeros(n + 1, np.int64)
    np.cumsum([len(each) for each in lists], out=starts[1:])
    shares = [(i, begin, min(begin + TASK_ROWS, int(starts[i + 1])))
              for i in range(n) for begin in range(int(starts[i]), int(starts[i + 1]), TASK_ROWS)]
    return np.concatenate(lists).astype(np.int32), starts, np.array(shares, np.int64).reshape(-1, 3)


cdef struct Norming:
    float *x               # (n, columns), normalised in place
    const float *norm
    float eps
    int64_t columns


cdef void norm_task(const void *data, Workspace space, int64_t token, int thread) noexcept nogil:
    cdef const Norming *job = <const Norming *>data
    cdef float *x = job.x + token * job.columns
    kernels().rms_norm(x, job.norm, job.eps, job.columns, x)


cdef void named_rows_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil:
    cdef const NamedRows *job = <const NamedRows *>data
    cdef const int64_t *share = job.shares + 3 * task
    kernels().dense_rows[job.kind](job.matrix, job.columns, job.ids + share[1], share[2] - share[1],
                                   job.x + share[0] * job.columns, job.logits + share[1])
