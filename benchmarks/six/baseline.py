"""The baseline that "times faster" is measured against: the same checkpoint, computed naively.

One thread, scalar kernels, weights as floats, no KV cache: every token is computed again for each
new one. The arithmetic is that of the model, int8 activations times ternary weights, in plain NumPy
with the scalar tier's float product, a loop in portable C. It is what one writes first, and its
logits are the model's but for rounding, which its users check.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.kernels.linear import norm_dense
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.kernels.workspace import Workspace

__all__ = ["Baseline", "BaselineRun"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class BaselineRun:
    """
    Attributes
    ----------
    logits : float32 (vocab,)
        After the last token.
    seconds : float
        Without the unpacking of weights: as if there were memory for all of them as floats.
    unpacking_seconds : float
        What unpacking took besides. Each matrix is unpacked when it is needed, since floats take
        sixteen times the memory.
    """

    logits: Float32
    seconds: float
    unpacking_seconds: float


class Baseline:
    """
    Parameters
    ----------
    graph : a `bitnet` graph, of whose weights the values are taken, not the layout
    """

    def __init__(self, graph: Any) -> None:
        self._graph, self._workspace = graph, Workspace(1)
        self._unpacking = 0.0

    def last_logits(self, ids: Sequence[int]) -> BaselineRun:
        """Computes all of `ids` anew. Sets the tier meanwhile: nothing else may compute."""
        former = cpu.current_tier()
        cpu.use_tier("scalar")
        self._unpacking, start = 0.0, time.perf_counter()
        try:
            logits = self._forward(np.asarray(ids, np.int64))
            seconds = time.perf_counter() - start - self._unpacking
        finally:
            cpu.use_tier(former)
        return BaselineRun(logits, seconds, self._unpacking)

    def _forward(self, ids: NDArray[np.int64]) -> Float32:
        graph, config = self._graph, self._graph.config
        x = graph.embedding.rows(np.asarray(ids, np.int64))
        rotary = _rotary(len(ids), config.head_dim, config.rope_theta)
        for layer in graph.layers:
            normed = _rms_norm(x, layer.input_norm, layer.eps)
            q, k, v = (self._product(normed, matrix) for matrix in (layer.q, layer.k, layer.v))
            mixed = _attention(_rotate(q, rotary), _rotate(k, rotary), v, config)
            x += self._product(_rms_norm(mixed, layer.attention_sub_norm, layer.eps), layer.o)
            normed = _rms_norm(x, layer.post_attention_norm, layer.eps)
            gate, up = self._product(normed, layer.gate), self._product(normed, layer.up)
            hidden = _rms_norm(
                _activate(gate, layer.activation) * up, layer.ffn_sub_norm, layer.eps
            )
            x += self._product(hidden, layer.down)
        last = _rms_norm(x[-1:], graph.head.norm, config.norm_eps)
        logits = np.empty((1, config.vocab_size), np.float32)
        matrix = graph.head.matrix
        norm_dense(last, None, 0.0, matrix.array, matrix.dtype, logits, self._workspace)
        return logits[0]

    def _product(self, x: Float32, matrix: TernaryMatrix) -> Float32:
        """x quantised to int8 codes, as floats, times the weights as floats: sums of integers,
        which float32 holds exactly."""
        scale = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-5)) / np.float32(127)
        codes = np.rint(x / scale).astype(np.float32)
        start = time.perf_counter()
        weights = matrix.dense().astype(np.float32)
        self._unpacking += time.perf_counter() - start
        out = np.empty((len(x), matrix.rows), np.float32)
        norm_dense(codes, None, 0.0, weights, "F32", out, self._workspace)
        return out * (scale * np.float32(matrix.scale))


def _rms_norm(x: Float32, weights: Float32 | None, eps: float) -> Float32:
    normed = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(eps))
    return normed if weights is None else normed * weights


def _activate(x: Float32, name: str) -> Float32:
    if name == "relu2":
        return np.square(np.maximum(x, 0))
    if name == "silu":
        return x / (1 + np.exp(-x))
    raise NotImplementedError(f"the baseline has no activation {name!r}")


def _rotary(positions: int, head_dim: int, theta: float) -> tuple[Float32, Float32]:
    """cos and sin, (positions, 1, head_dim / 2)."""
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(positions)[:, None, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Float32, rotary: tuple[Float32, Float32]) -> Float32:
    """Heads (positions, heads, head_dim)."""
    cosines, sines = rotary
    half = cosines.shape[-1]
    heads = x.reshape(len(x), -1, 2 * half)
    first, second = heads[..., :half], heads[..., half:]
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return np.concatenate(turned, axis=-1)


def _attention(q: Float32, k: Float32, v: Float32, config: Any) -> Float32:
    """Causal, head after head; q (n, heads, head_dim), k (n, kv_heads, head_dim), v (n, ...)."""
    n, heads, head_dim = q.shape
    values = v.reshape(n, -1, head_dim)
    group = heads // config.n_kv_heads
    hidden = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    out = np.empty_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // group].T / np.float32(head_dim**0.5) + hidden
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, head] = weights / weights.sum(axis=1, keepdims=True) @ values[:, head // group]
    return out.reshape(n, -1)
