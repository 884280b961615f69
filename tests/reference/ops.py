"""Single operations, each as its definition reads, in float64 (integers in int64).

Inputs of any float dtype are widened first, so a float32 input is taken exactly.
The last axis is the feature axis unless a docstring says otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

INT8_FLOOR = 1e-5  # the smallest row maximum that activation quantisation divides by


def rms_norm(x: npt.ArrayLike, weight: npt.ArrayLike | None, eps: float) -> Float64:
    """`x / sqrt(mean(x²) + eps) · weight` along the last axis; `weight=None` means ones."""
    x64 = np.asarray(x, np.float64)
    normed = x64 / np.sqrt(np.mean(x64 * x64, axis=-1, keepdims=True) + eps)
    return normed if weight is None else normed * np.asarray(weight, np.float64)


def layer_norm(
    x: npt.ArrayLike, weight: npt.ArrayLike | None, bias: npt.ArrayLike | None, eps: float
) -> Float64:
    """`(x − mean) / sqrt(variance + eps) · weight + bias`, with the biased variance."""
    x64 = np.asarray(x, np.float64)
    centred = x64 - np.mean(x64, axis=-1, keepdims=True)
    out = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    if weight is not None:
        out = out * np.asarray(weight, np.float64)
    return out if bias is None else out + np.asarray(bias, np.float64)


def relu2(x: npt.ArrayLike) -> Float64:
    """`max(x, 0)²`."""
    return np.maximum(np.asarray(x, np.float64), 0.0) ** 2


def silu(x: npt.ArrayLike) -> Float64:
    """`x · sigmoid(x)`, written so that no exponential overflows."""
    x64 = np.asarray(x, np.float64)
    small = np.exp(-np.abs(x64))
    return x64 * np.where(x64 >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def gelu_erf(x: npt.ArrayLike) -> Float64:
    """`x · Φ(x)`, Φ the normal distribution function, by the complementary error function."""
    x64 = np.asarray(x, np.float64)
    # erfc keeps the relative precision of the tail, where 1 + erf would cancel.
    phi = np.frompyfunc(lambda v: 0.5 * math.erfc(-v / math.sqrt(2.0)), 1, 1)(x64)
    return x64 * np.asarray(phi, np.float64)


def gelu_tanh(x: npt.ArrayLike) -> Float64:
    """`x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`."""
    x64 = np.asarray(x, np.float64)
    inner = math.sqrt(2.0 / math.pi) * (x64 + 0.044715 * x64**3)
    # 1 + tanh(z) = 2·sigmoid(2z): same function, without cancellation for negative z.
    small = np.exp(-2.0 * np.abs(inner))
    return x64 * np.where(inner >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def softmax(x: npt.ArrayLike) -> Float64:
    """Softmax along the last axis; `-inf` entries get weight zero."""
    x64 = np.asarray(x, np.float64)
    powers = np.exp(x64 - np.max(x64, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def log_softmax(x: npt.ArrayLike) -> Float64:
    """`log(softmax(x))` along the last axis."""
    x64 = np.asarray(x, np.float64)
    shifted = x64 - np.max(x64, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def rope_tables(positions: npt.ArrayLike, head_dim: int, theta: float) -> tuple[Float64, Float64]:
    """Cosines and sines, each `(positions, head_dim / 2)`.

    Models are trained with frequencies and angles rounded to float32, so both are
    rounded here; at position 4,095 the angle would otherwise differ by 1e-4.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim {head_dim} is odd")
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = (float(theta) ** exponents.astype(np.float64)).astype(np.float32)
    inverse = np.float32(1.0) / powers
    angles = np.asarray(positions).astype(np.float32)[:, None] * inverse[None, :]
    return np.cos(angles.astype(np.float64)), np.sin(angles.astype(np.float64))


def rope(x: npt.ArrayLike, positions: npt.ArrayLike, theta: float) -> Float64:
    """Rotate `x` of shape `(tokens, heads, head_dim)`: element i is paired with i + head_dim/2."""
    x64 = np.asarray(x, np.float64)
    half = x64.shape[-1] // 2
    cos, sin = rope_tables(positions, x64.shape[-1], theta)
    cos, sin = cos[:, None, :], sin[:, None, :]
    low, high = x64[..., :half], x64[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def quantize_int8(x: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> tuple[Int64, Float64]:
    """Absmax int8 of every row: `(q, step)` with `x ≈ q · step`.

    `m = max(max|x|, 1e-5)`, `q = round_half_even(x · (127/m))` clamped to −128..127 and
    `step = 1 / (127/m)` per row, shape `(..., 1)`. `dtype` is the precision the quotient
    and the products are rounded to: float64 for the mathematical value, float32 for
    the exact sequence of operations of a float32 implementation.
    """
    rows = np.asarray(x).astype(dtype)
    largest = np.maximum(np.max(np.abs(rows), axis=-1, keepdims=True), rows.dtype.type(INT8_FLOOR))
    scale = rows.dtype.type(127) / largest
    q = np.clip(np.rint(rows * scale), -128, 127).astype(np.int64)
    return q, 1.0 / scale.astype(np.float64)


def ternary_matmul(q: npt.ArrayLike, t: npt.ArrayLike) -> Int64:
    """`out[n, o] = Σ_k q[n, k] · t[o, k]` in int64: no rounding and no overflow."""
    q64, t64 = np.asarray(q, np.int64), np.asarray(t, np.int64)
    # einsum without `optimize` stays in int64 whatever BLAS is there.
    return np.einsum("nk,ok->no", q64, t64)


def attention(
    q: npt.ArrayLike, k: npt.ArrayLike, v: npt.ArrayLike, scale: float | None = None
) -> Float64:
    """Causal attention with grouped key/value heads.

    `q` is `(tokens, heads, head_dim)`, `k` and `v` are `(positions, kv_heads, head_dim)`.
    The tokens are the *last* of the positions. Query head h reads key/value head
    `h // (heads / kv_heads)`. `scale` defaults to `head_dim ** -0.5`. Returns the shape of `q`.
    """
    q64, k64, v64 = (np.asarray(a, np.float64) for a in (q, k, v))
    tokens, heads, head_dim = q64.shape
    positions, kv_heads, _ = k64.shape
    if heads % kv_heads or positions < tokens:
        raise ValueError(f"queries {q64.shape} do not fit keys {k64.shape}")
    scale = head_dim**-0.5 if scale is None else scale
    future = np.arange(positions)[None, :] > np.arange(positions - tokens, positions)[:, None]
    out = np.empty_like(q64)
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = q64[:, head] @ k64[:, shared].T * scale
        out[:, head] = softmax(np.where(future, -np.inf, scores)) @ v64[:, shared]
    return out
