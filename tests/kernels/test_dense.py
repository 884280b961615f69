"""Float matrix products of embedding and head, in the dtypes of checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels.linear import norm_dense
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.testing import from_bf16_bits, to_bf16_bits

from . import steps
from .hard_floats import wide
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

DENSE_KINDS = ("F32", "F16", "BF16")
EPS = 1e-6


def stored(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(as norm_dense takes them, as float32)."""
    if kind == "BF16":
        bits = to_bf16_bits(values)
        return bits, from_bf16_bits(bits)
    with np.errstate(over="ignore", under="ignore"):
        cast = values.astype({"F32": np.float32, "F16": np.float16}[kind])
    return cast, cast.astype(np.float32)


def dense(x: np.ndarray, w: np.ndarray, kind: str, norm: np.ndarray | None = None,
          n_threads: int = 1) -> np.ndarray:  # fmt: skip
    out = np.full((len(x), len(w)), np.nan, np.float32)
    norm_dense(x, norm, EPS, w, kind, out, Workspace(n_threads))
    return out


@pytest.mark.parametrize("kind", DENSE_KINDS)
@pytest.mark.parametrize("columns", [1, 3, 15, 16, 17, 63, 100])
def test_every_size_with_a_tail(columns: int, kind: str, rng: np.random.Generator) -> None:
    """Rows in fours, tokens in fours, tasks of 64 rows."""
    x = rng.standard_normal((9, columns), np.float32)
    for rows in (1, 2, 3, 4, 5, 63, 64, 65, 130):
        w, values = stored(rng.standard_normal((rows, columns)), kind)
        wanted = steps.dense(x, values)
        for tokens in range(1, 10) if rows in (5, 65) else (1, 5):
            assert_same_bits(dense(x[:tokens], w, kind), wanted[:tokens])


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_against_float64(kind: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 2560), np.float32)
    w, values = stored(0.02 * rng.standard_normal((70, 2560)), kind)
    exact = x.astype(np.float64) @ values.T.astype(np.float64)
    # 160 additions a lane: errors of half an ulp that mostly cancel
    bound = 2.0**-21 * np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(values, axis=1)
    assert np.all(np.abs(dense(x, w, kind) - exact) <= bound)


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_norm_comes_first(kind: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 100), np.float32)
    gain = rng.standard_normal(100, np.float32)
    w, values = stored(rng.standard_normal((33, 100)), kind)
    wanted = steps.dense(steps.rms_norm(x, gain, EPS), values)
    for n_threads in (1, 2, 3):
        assert_same_bits(dense(x, w, kind, gain, n_threads), wanted)


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_any_magnitude(kind: str, rng: np.random.Generator) -> None:
    """Subnormal, huge and zero weights; for float16 most of these become subnormal or infinite."""
    x = wide(rng, 5, 100, low=-60, high=60)
    w, values = stored(wide(rng, 20, 100), kind)
    with np.errstate(all="ignore"):
        wanted = steps.dense(x, values)
    assert_same_bits(dense(x, w, kind), wanted)


def test_every_float16_is_widened_exactly() -> None:
    """All 65,536 bit patterns, subnormals and infinities included."""
    w = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(-1, 1)
    finite = w[np.isfinite(w)].reshape(-1, 1)
    one = np.ones((1, 1), np.float32)
    assert_same_bits(dense(one, finite, "F16")[0] + 0, finite[:, 0].astype(np.float32) + 0)
    rest = w[~np.isfinite(w)].reshape(-1, 1)
    assert_same_bits(dense(one, rest, "F16")[0], rest[:, 0].astype(np.float32))


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_weights_at_an_odd_element(kind: str, rng: np.random.Generator) -> None:
    w, values = stored(rng.standard_normal((9, 50)), kind)
    held = np.empty(w.size + 1, w.dtype)
    held[1:] = w.reshape(-1)
    x = rng.standard_normal(101, np.float32)[1:].reshape(2, 50)
    assert_same_bits(dense(x, held[1:].reshape(w.shape), kind), steps.dense(x, values))
