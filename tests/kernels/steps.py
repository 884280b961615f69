"""The float kernels in NumPy float32, operation by operation as kernels.h orders them.

Slow and literal. Results are compared by `==`: a kernel that adds in another order,
fuses a multiplication or approximates a division fails.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Exp = Callable[[Float32], Float32]

F = np.float32
ONE = F(1)
BLOCK = 256


def lane_sum(values: Float32) -> Float32:
    """Sum along the last axis in sixteen lanes by index and the fixed tree."""
    short = -values.shape[-1] % 16
    padded = np.concatenate([values, np.zeros((*values.shape[:-1], short), F)], axis=-1)
    groups = padded.reshape(*values.shape[:-1], -1, 16)
    lanes = np.zeros((*values.shape[:-1], 16), F)
    for index in range(groups.shape[-2]):
        lanes = lanes + groups[..., index, :]
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def rms_norm(x: Float32, weight: Float32 | None, eps: float) -> Float32:
    """Rows of x (n, columns)."""
    mean = lane_sum(x * x) / F(x.shape[-1])
    out = x * (ONE / np.sqrt(mean + F(eps)))[..., None]
    return out if weight is None else out * weight


def layer_norm(x: Float32, weight: Float32 | None, bias: Float32 | None, eps: float) -> Float32:
    """Rows of x (n, columns)."""
    count = F(x.shape[-1])
    centred = x - (lane_sum(x) / count)[..., None]
    variance = lane_sum(centred * centred) / count
    out = centred * (ONE / np.sqrt(variance + F(eps)))[..., None]
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


def quantize(x: Float32) -> tuple[npt.NDArray[np.int64], Float32]:
    """(codes, scale per row) of rows of x (n, columns)."""
    largest = np.maximum(np.max(np.abs(x), axis=-1), F(1e-5))
    codes = np.rint(x * (F(127) / largest)[..., None])
    return codes.astype(np.int64), largest / F(127)


def ternary_product(codes: npt.NDArray[np.int64], scales: Float32, t: npt.NDArray[np.int8],
                    weight_scale: float) -> Float32:  # fmt: skip
    """y[token, row] from exact integer sums. float64 holds them exactly, and BLAS is fast."""
    sums = codes.astype(np.float64) @ t.T.astype(np.float64)
    return sums.astype(F) * (scales * F(weight_scale))[:, None]


def dense(x: Float32, w: Float32) -> Float32:
    """x (n, columns) times rows of w."""
    return lane_sum(x[:, None, :] * w[None, :, :])


def relu2(x: Float32) -> Float32:
    positive = np.maximum(x, F(0))
    return positive * positive


def rope(x: Float32, cosine: Float32, sine: Float32) -> Float32:
    """Heads (..., head_dim) with cosine and sine (..., head_dim / 2)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def attention_codes(x: Float32, top: int) -> tuple[npt.NDArray[np.int64], np.float32]:
    """x as codes of at most `top`, and the value of code 1."""
    largest = np.max(np.abs(x))
    factor = F(top) / largest if largest > F(7.8886e-31) else F(0)
    return np.rint(x * factor).astype(np.int64), largest / F(top)


def attend(q: Float32, keys: Float32, values: Float32, scale: float, exp: Exp,
           k_scale: Float32 | None = None, v_scale: Float32 | None = None) -> Float32:  # fmt: skip
    """One query (head_dim,) against all of keys and values (positions, head_dim), by blocks.

    With scales, keys and values hold the int8 codes, and products are of integers.
    """
    running: tuple[Float32, np.float32, np.float32] | None = None
    for begin in range(0, len(keys), BLOCK):
        inside = slice(begin, min(begin + BLOCK, len(keys)))
        if k_scale is None or v_scale is None:
            score = np.zeros(inside.stop - begin, F)
            for d in range(q.size):
                score = score + q[d] * keys[inside, d]
            score = score * F(scale)
        else:
            codes, step = attention_codes(q, 16256)
            score = (keys[inside].astype(np.int64) @ codes).astype(F)
            score = score * k_scale[inside] * (step * F(scale))
        maximum = score.max()
        weight = exp(score - maximum)
        total = lane_sum(weight)
        if k_scale is None or v_scale is None:
            mixed = np.zeros(q.size, F)
            for position, row in enumerate(values[inside]):
                mixed = mixed + weight[position] * row
        else:
            codes, step = attention_codes(weight * v_scale[inside], 32767)
            mixed = (codes @ values[inside].astype(np.int64)).astype(F) * step
        if running is None:
            running = mixed, maximum, total
            continue
        most = max(running[1], maximum)
        a, b = exp(np.array([running[1] - most, maximum - most], F))
        running = running[0] * a + mixed * b, most, running[2] * a + total * b
    assert running is not None
    return running[0] * (ONE / running[2])
