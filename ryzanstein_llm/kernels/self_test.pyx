# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Kernels of a tier against those of the scalar tier, on a few rows of random and of worst-case data.

When a model opens, each kernel that it will use runs once at the model's own widths, and its results have to
equal those of portable C bit for bit. What this finds is not a mistake that tests would have found, but a
machine, a compiler or an emulator that computes something else here than where the tests ran.

Each check fills arrays whose first axis is the table: that under test, then the scalar one. Products run with
several numbers of tokens, because tiers have other code for few and for many. But the scalar tier computes each
token once, since results must not depend on what else is in a call.
"""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_ACTIVATIONS_STRIDE, RZ_KV_BLOCK, Table, rz_float_mode_enter, rz_float_mode_leave, rz_kv_block)

from ryzanstein_llm.errors import KernelSelfTestError
from ryzanstein_llm.kernels import cpu, self_test_ternary
from ryzanstein_llm.kernels.attention import KV_KINDS
from ryzanstein_llm.kernels.linear import ACTIVATIONS
from ryzanstein_llm.kernels.self_test_data import floats, floats_as, kv_arrays, repeated
from ryzanstein_llm.kernels.sources import FLOAT_KINDS

UNCHECKED = frozenset({"read_stream", "multiply_peak", "product_scratch"})
"""Kernels for benchmarks, whose results mean nothing; and a size that each tier chooses."""

EPS = <float>1e-5


cdef void *at(array) except NULL:
    return <void *><size_t>array.ctypes.data


cdef float *floats_at(array) except NULL:
    return <float *>at(array)


def check_rms_norm(tables, random, use):
    x, weight = floats(random, 3, use.columns), floats(random, 1, use.columns)
    out = np.empty((2, 2, 3, use.columns), np.float32)
    for i, table in enumerate(tables):
        for t in range(3):
            (<Table>table).kernels.rms_norm(floats_at(x[t]), floats_at(weight), EPS, use.columns,
                                            floats_at(out[i, 0, t]))
            (<Table>table).kernels.rms_norm(floats_at(x[t]), NULL, EPS, use.columns, floats_at(out[i, 1, t]))
    return [out]


def check_layer_norm(tables, random, use):
    x, weights = floats(random, 3, use.columns), floats(random, 4, use.columns)[::3]
    out = np.empty((2, 3, use.columns), np.float32)
    for i, table in enumerate(tables):
        for t in range(3):
            (<Table>table).kernels.layer_norm(floats_at(x[t]), floats_at(weights[0]), floats_at(weights[1]), EPS,
                                              use.columns, floats_at(out[i, t]))
    return [out]


def check_quantize(tables, random, use):
    """Also numbers half way between two codes, and one that is not finite, whose codes mean nothing."""
    cdef int64_t padded = RZ_ACTIVATIONS_STRIDE(use.columns)
    x = np.concatenate((floats(random, 3, use.columns), np.zeros((2, use.columns), np.float32)))
    x[3] = random.integers(-126, 126, use.columns) + 0.5
    x[3, 0], x[4, -1] = 127, np.inf
    codes = np.full((2, len(x), padded), 1, np.int8)
    scales, sums = np.empty((2, len(x)), np.float32), np.empty((2, len(x)), np.int32)
    for i, table in enumerate(tables):
        for t in range(len(x)):
            (<Table>table).kernels.quantize(floats_at(x[t]), use.columns, padded, <int8_t *>at(codes[i, t]),
                                            floats_at(scales[i, t:]), <int32_t *>at(sums[i, t:]))
    return [codes[:, :4], scales, sums[:, :4]]


def check_dense_matmul(tables, random, use):
    cdef int kind = FLOAT_KINDS[use.which]
    w, x = floats_as(random, 7, use.columns, use.which), floats(random, 5, use.columns)
    out = np.empty((2, 2, 5, 7), np.float32)
    for i, table in enumerate(tables):
        for j, n in enumerate((1, 5)):
            out[i, j] = 0
            (<Table>table).kernels.dense_matmul[kind](at(w), use.columns, 0, 7, floats_at(x), n,
                                                      floats_at(out[i, j]), 7)
    return [out]


def check_dense_rows(tables, random, use):
    cdef int kind = FLOAT_KINDS[use.which]
    w, x = floats_as(random, 7, use.columns, use.which), floats(random, 1, use.columns)
    listed = np.array([5, 0, 6], np.int32)
    out = np.empty((2, 3), np.float32)
    for i, table in enumerate(tables):
        (<Table>table).kernels.dense_rows[kind](at(w), use.columns, <const int32_t *>at(listed), 3, floats_at(x),
                                                floats_at(out[i]))
    return [out]


def check_activate(tables, random, use):
    return activated(tables, random, use, False)


def check_activate_gated(tables, random, use):
    return activated(tables, random, use, True)


def activated(tables, random, use, gated):
    cdef int which = ACTIVATIONS[use.which]
    cdef int64_t n = 3 * max(2, min(use.columns, 333))
    x = floats(random, 3, n // 3, 7).reshape(-1)
    x[:5] = (0.0, -0.0, np.inf, -np.inf, 3.4e38)
    up, out = floats(random, 1, n), np.empty((2, n), np.float32)
    for i, table in enumerate(tables):
        if gated:
            (<Table>table).kernels.activate_gated[which](floats_at(x), floats_at(up), n, floats_at(out[i]))
        else:
            (<Table>table).kernels.activate[which](floats_at(x), n, floats_at(out[i]))
    return [out]


def check_softmax_weights(tables, random, use):
    x = floats(random, 3, 333, 7).reshape(-1)
    out, sums = np.empty((2, x.size), np.float32), np.empty(2, np.float32)
    for i, table in enumerate(tables):
        sums[i] = (<Table>table).kernels.softmax_weights(floats_at(x), x.size, floats_at(out[i]))
    return [out, sums]


def check_exp(tables, random, use):
    x = floats(random, 3, 333, 9).reshape(-1)
    out = np.empty((2, x.size), np.float32)
    for i, table in enumerate(tables):
        (<Table>table).kernels.exp(floats_at(x), x.size, floats_at(out[i]))
    return [out]


def check_rope(tables, random, use):
    turns = floats(random, 4, use.columns // 2)[::3]
    out = np.repeat(floats(random, 3, use.columns)[None], 2, axis=0)
    for i, table in enumerate(tables):
        (<Table>table).kernels.rope(floats_at(out[i]), 3, use.columns, floats_at(turns[0]), floats_at(turns[1]))
    return [out]


cdef rz_kv_block block_of(arrays):
    cdef rz_kv_block block
    k, v, scales = arrays
    block.k, block.v, block.k_scale, block.v_scale = at(k), at(v), floats_at(scales[0]), floats_at(scales[1])
    return block


def check_kv_append(tables, random, use):
    cdef int kind = KV_KINDS[use.which]
    cdef rz_kv_block block
    rows = floats(random, 6, use.columns)
    arrays = [np.repeat(array[None], 2, axis=0) for array in kv_arrays(random, use.which, use.columns)]
    for i, table in enumerate(tables):
        block = block_of([array[i] for array in arrays])
        for row, slot in enumerate((0, 17, RZ_KV_BLOCK - 1)):
            (<Table>table).kernels.kv_append[kind](floats_at(rows[row]), floats_at(rows[row + 3]), use.columns, slot,
                                                   &block)
    return arrays


def check_attend_block(tables, random, use):
    cdef int kind = KV_KINDS[use.which]
    arrays = kv_arrays(random, use.which, use.columns)
    cdef rz_kv_block block = block_of(arrays)
    cdef const int32_t *hides
    q = floats(random, 7, use.columns, 3)[::3]  # ordinary numbers
    valid, hidden = np.array([RZ_KV_BLOCK, 77, 1], np.int32), np.array([0, 30, 0], np.int32)
    results = []
    for window in (False, True):
        exact = None
        for n in (3, 1, 3, 16):
            queries, seen, unseen = repeated(q, n), repeated(valid, n), repeated(hidden, n)
            hides = <const int32_t *>at(unseen) if window else NULL
            found = np.empty((n, use.columns + 2), np.float32)
            (<Table>tables[exact is None]).kernels.attend_block[kind](
                floats_at(queries), use.columns, n, <const int32_t *>at(seen), hides, use.columns, <float>0.0883,
                &block, floats_at(found))
            if exact is None:
                exact = found
            else:
                results.append(np.stack((found, repeated(exact, n))))
    return results


def check_attend_combine(tables, random, use):
    partial = floats(random, 1, use.columns + 2)
    out = np.repeat(floats(random, 1, use.columns + 2), 2, axis=0)
    for i, table in enumerate(tables):
        (<Table>table).kernels.attend_combine(floats_at(out[i]), floats_at(partial), use.columns)
    return [out]


def check_attend_finish(tables, random, use):
    running = floats(random, 1, use.columns + 2)
    out = np.empty((2, use.columns), np.float32)
    for i, table in enumerate(tables):
        (<Table>table).kernels.attend_finish(floats_at(running), use.columns, floats_at(out[i]))
    return [out]


CHECKS = {
    name.removeprefix("check_"): check
    for module in (globals(), vars(self_test_ternary)) for name, check in list(module.items())
    if name.startswith("check_")
}
"""From a member of rz_kernels to its check: (tables, random numbers, use) -> arrays, by table."""


def failing_kernels(uses, tier=None):
    """Those of `uses` whose kernels give other bits than the scalar tier.

    Parameters
    ----------
    uses : iterable of KernelUse
    tier : str, optional
        One of `cpu.available_tiers()`. Default: that in use.
    """
    cdef unsigned int mode
    tables = (cpu.Table(tier), cpu.Table("scalar"))
    if tables[0].address == tables[1].address:
        return []
    failing = []
    for use in uses:
        mode = rz_float_mode_enter()
        try:
            with np.errstate(all="ignore"):
                results = CHECKS[use.kernel](tables, np.random.default_rng(20240227), use)
        finally:
            rz_float_mode_leave(mode)
        if not all(same_bits(result[0], result[1]) for result in results):
            failing.append(use)
    return failing


def same_bits(a, b):
    """Whether two arrays have the same bits; one NaN is as good as another."""
    if a.dtype == np.float32:
        a, b = np.where(np.isnan(a), np.float32(np.nan), a), np.where(np.isnan(b), np.float32(np.nan), b)
    return a.tobytes() == b.tobytes()


def check_kernels(uses):
    """Raise an error if a kernel of the tier in use gives other bits than the scalar tier for one of `uses`, KernelUse.

    Raises
    ------
    KernelSelfTestError
    """
    failing = failing_kernels(uses)
    if failing:
        use, tier = failing[0], cpu.current_tier()
        others = tuple(name for name in cpu.available_tiers() if name != tier)
        raise KernelSelfTestError(tier, use.kernel, use.which, use.columns, others)
