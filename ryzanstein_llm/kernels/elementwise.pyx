# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Single kernels on NumPy arrays, for sampling, model families and tests.

They run on one thread, on arrays of one token. The bits are equal in all tiers.
"""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t
from ryzanstein_llm.kernels.cpu cimport kernels, rz_float_mode_enter, rz_float_mode_leave

from ryzanstein_llm.kernels.linear import ACTIVATIONS

cdef extern from "ryzanstein/rotary_table.h" nogil:
    double rz_log_(double)
    double rz_exp_(double)


def rms_norm(const float[::1] x, weight, float eps):
    """x / sqrt(mean(x^2) + eps) * weight: float32 (n,). `weight` is float32 (n,) or None."""
    cdef const float[::1] weights = weight if weight is not None else x
    if weights.shape[0] != x.shape[0]:
        raise ValueError(f"{weights.shape[0]} weights do not fit {x.shape[0]} values")
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    kernels().rms_norm(&x[0], &weights[0] if weight is not None else NULL, eps, x.shape[0], &out[0])
    rz_float_mode_leave(mode)
    return result


def layer_norm(const float[::1] x, weight, bias, float eps):
    """(x - mean) / sqrt(variance + eps) * weight + bias: float32 (n,). `weight` and `bias` are float32 (n,)
    or None."""
    cdef const float[::1] weights = weight if weight is not None else x
    cdef const float[::1] biases = bias if bias is not None else x
    if weights.shape[0] != x.shape[0] or biases.shape[0] != x.shape[0]:
        raise ValueError(f"{weights.shape[0]} weights and {biases.shape[0]} biases do not fit {x.shape[0]} values")
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    kernels().layer_norm(&x[0], &weights[0] if weight is not None else NULL,
                         &biases[0] if bias is not None else NULL, eps, x.shape[0], &out[0])
    rz_float_mode_leave(mode)
    return result


def quantize(const float[::1] x):
    """int8 activations of one token (BitNet b1.58): (codes, scale, sum of codes). The codes are int8 (n,).

    m = max(max|x|, 1e-5); codes = round_half_even(x * (127 / m)); scale = m / 127.
    """
    codes = np.empty(x.shape[0], np.int8)
    cdef int8_t[::1] out = codes
    cdef float scale
    cdef int32_t total
    cdef unsigned int mode = rz_float_mode_enter()
    kernels().quantize(&x[0], x.shape[0], x.shape[0], &out[0], &scale, &total)
    rz_float_mode_leave(mode)
    return codes, scale, total


def activate(name, const float[::1] x, up=None):
    """activation(x), times `up` if given: float32 (n,). `name` is a key of ACTIVATIONS."""
    cdef int code = ACTIVATIONS[name]
    cdef const float[::1] factors = up if up is not None else x
    if factors.shape[0] != x.shape[0]:
        raise ValueError(f"{factors.shape[0]} values of `up` do not fit {x.shape[0]} values of x")
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    if up is None:
        kernels().activate[code](&x[0], x.shape[0], &out[0])
    else:
        kernels().activate_gated[code](&x[0], &factors[0], x.shape[0], &out[0])
    rz_float_mode_leave(mode)
    return result


def exp(const float[::1] x):
    """e^x: float32 (n,). It is 0 for x below -87.33654 and 2.4e38 for x above 88.37626."""
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    kernels().exp(&x[0], x.shape[0], &out[0])
    rz_float_mode_leave(mode)
    return result


def softmax_weights(const float[::1] x):
    """(exp(x - max(x)), the sum of these): a softmax before the division. The weights are float32 (n,)."""
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    cdef float total = kernels().softmax_weights(&x[0], x.shape[0], &out[0])
    rz_float_mode_leave(mode)
    return result, total


def rope(const float[:, ::1] x, const float[::1] cosine, const float[::1] sine):
    """A rotated copy of heads, float32 (heads, head_dim), by RoPE. cosine and sine are (head_dim // 2,)."""
    if x.shape[1] % 2 or cosine.shape[0] != x.shape[1] // 2 or sine.shape[0] != cosine.shape[0]:
        raise ValueError(f"{cosine.shape[0]} cosines and {sine.shape[0]} sines do not fit heads of {x.shape[1]}")
    result = np.array(x, np.float32)
    cdef float[:, ::1] out = result
    cdef unsigned int mode = rz_float_mode_enter()
    kernels().rope(&out[0, 0], x.shape[0], x.shape[1], &cosine[0], &sine[0])
    rz_float_mode_leave(mode)
    return result


def cumulative_sum(const float[::1] x):
    """Running sums, added in double and in order: float64 (n,)."""
    result = np.empty(x.shape[0], np.float64)
    cdef double[::1] out = result
    cdef double total = 0
    cdef int64_t i
    cdef unsigned int mode = rz_float_mode_enter()
    for i in range(x.shape[0]):
        total += x[i]
        out[i] = total
    rz_float_mode_leave(mode)
    return result


def log(const double[::1] x):
    """Natural logarithms of positive doubles, without libm: float64 (n,)."""
    result = np.empty(x.shape[0], np.float64)
    cdef double[::1] out = result
    cdef int64_t i
    cdef unsigned int mode = rz_float_mode_enter()
    for i in range(x.shape[0]):
        out[i] = rz_log_(x[i])
    rz_float_mode_leave(mode)
    return result


def exp_of_double(double x):
    """e^x in double, in the library's own fixed steps; 0 for x below -690 and infinite for x above 690."""
    if x < -690:
        return 0.0
    if not x <= 690:
        return float("inf")
    cdef unsigned int mode = rz_float_mode_enter()
    cdef double result = rz_exp_(x)
    rz_float_mode_leave(mode)
    return result


def power(double base, double exponent):
    """base ** exponent for base > 0, in the library's own fixed steps."""
    cdef unsigned int mode = rz_float_mode_enter()
    cdef double result = rz_exp_(exponent * rz_log_(base))
    rz_float_mode_leave(mode)
    return result


def negative_log_likelihood(const float[:, ::1] logits, const int64_t[::1] targets):
    """-log softmax(logits[i])[targets[i]] in nats: float64 (n,).

    Parameters
    ----------
    logits : float32 (n, vocabulary)
    targets : int64 (n,)
        Tokens from 0 to the size of the vocabulary - 1.

    Raises
    ------
    ValueError
        If there are not n targets, or one is out of range.
    """
    cdef int64_t n = logits.shape[0], vocab = logits.shape[1], i
    result = np.empty(n, np.float64)
    weights = np.empty(vocab, np.float32)
    cdef double[::1] out = result
    cdef float[::1] scratch = weights
    cdef float most, total
    cdef int64_t j
    if targets.shape[0] != n:
        raise ValueError(f"{targets.shape[0]} targets do not fit {n} rows of logits")
    for i in range(n):
        if not 0 <= targets[i] < vocab:
            raise ValueError(f"target {targets[i]} is not one of 0 to {vocab - 1}")
    cdef unsigned int mode = rz_float_mode_enter()
    for i in range(n):
        total = kernels().softmax_weights(&logits[i, 0], vocab, &scratch[0])
        most = logits[i, 0]
        for j in range(1, vocab):
            if logits[i, j] > most:
                most = logits[i, j]
        out[i] = rz_log_(<double>total) + <double>most - <double>logits[i, targets[i]]
    rz_float_mode_leave(mode)
    return result


def inverse_square_root(float x):
    """1 / sqrt(x) in float32 steps. The caller's rounding mode does not matter."""
    cdef unsigned int mode = rz_float_mode_enter()
    result = np.float32(1) / np.sqrt(np.float32(x))
    rz_float_mode_leave(mode)
    return float(result)


def reciprocal(float x):
    """1 / x in float32, infinite for 0. The caller's rounding mode does not matter."""
    cdef unsigned int mode = rz_float_mode_enter()
    cdef float result = <float>1.0 / x
    rz_float_mode_leave(mode)
    return result


def add_rms_norms(float[::1] total, const float[:, ::1] x, const float[::1] weight, float eps):
    """total += rms_norm(row, weight, eps) for each row of x (n, d) in order, in float32. `total` is float32 (d,)."""
    cdef int64_t d = total.shape[0], row, i
    cdef float[::1] normed = np.empty(d, np.float32)
    if x.shape[1] != d or weight.shape[0] != d:
        raise ValueError(f"rows of {x.shape[1]} values and {weight.shape[0]} weights do not fit a sum of {d} values")
    cdef unsigned int mode = rz_float_mode_enter()
    for row in range(x.shape[0]):
        kernels().rms_norm(&x[row, 0], &weight[0], eps, d, &normed[0])
        for i in range(d):
            total[i] += normed[i]
    rz_float_mode_leave(mode)


def euclidean_length(const float[::1] x):
    """sqrt(sum of x^2), added in double and in order: float."""
    cdef double total = 0
    cdef int64_t i
    cdef unsigned int mode = rz_float_mode_enter()
    for i in range(x.shape[0]):
        total += <double>x[i] * <double>x[i]
    result = np.sqrt(np.float64(total))
    rz_float_mode_leave(mode)
    return float(result)


def divided(const float[::1] x, double divisor):
    """x / divisor, divided in double and rounded once: float32 (n,). `divisor` must not be 0."""
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] out = result
    cdef int64_t i
    if divisor == 0:
        raise ValueError("the divisor is 0")
    cdef unsigned int mode = rz_float_mode_enter()
    for i in range(x.shape[0]):
        out[i] = <float>(<double>x[i] / divisor)
    rz_float_mode_leave(mode)
    return result


def enter_float_mode():
    """Sets the default floating-point environment in this thread, so that NumPy runs in it. Returns the
    caller's environment, which `leave_float_mode` restores."""
    return rz_float_mode_enter()


def leave_float_mode(unsigned int saved):
    """Restores the caller's floating-point environment."""
    rz_float_mode_leave(saved)
