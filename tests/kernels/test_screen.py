"""The screened head: the likeliest tokens and their logits equal the full head's bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.head import ScreenedHead
from ryzanstein_llm.kernels.linear import norm_dense
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.testing import to_bf16_bits

SHAPES = [(1, 1), (5, 3), (17, 16), (300, 40), (1000, 67), (4096, 256), (2000, 2560)]


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "BF16":
        return to_bf16_bits(values)
    return values.astype(np.float16 if kind == "F16" else np.float32)


def full_head(hidden, norm, weights, kind):
    out = np.empty((1, len(weights)), np.float32)
    norm_dense(hidden[None], norm, 1e-5, weights, kind, out, Workspace(1))
    return out[0]


def hidden_states(rng: np.random.Generator, columns: int) -> dict[str, np.ndarray]:
    plain = rng.standard_normal(columns).astype(np.float32)
    outlier = plain.copy()
    outlier[columns // 2] = 300.0  # one plane of int8 would be far too coarse
    return {
        "plain": plain,
        "outlier": outlier,
        "tiny": plain * np.float32(1e-20),
        "huge": plain * np.float32(1e15),
        "zero": np.zeros(columns, np.float32),
        "one": np.eye(1, columns, dtype=np.float32)[0],
    }


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_likeliest_are_those_of_the_full_head(tier, rng, rows, columns, kind):
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, kind)
    head = ScreenedHead(weights, kind, 2)
    for name, hidden in hidden_states(rng, columns).items():
        for norm in (None, rng.standard_normal(columns).astype(np.float32)):
            expected = full_head(hidden, norm, weights, kind)
            for count in {1, min(7, rows), rows}:
                ids, logits = head.likeliest(hidden[None], norm, 1e-5, Workspace(2), count)[0]
                assert (np.diff(ids) > 0).all(), name
                assert (logits.view(np.uint32) == expected[ids].view(np.uint32)).all(), name
                least = np.sort(expected)[-count]
                assert set(np.flatnonzero(expected >= least)) <= set(ids), (name, count)


def test_the_screen_saves_most_rows(tier, rng):
    rows, columns = 8192, 512
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, "BF16")
    head = ScreenedHead(weights, "BF16", 1)
    hidden = rng.standard_normal(columns).astype(np.float32)
    ids, _ = head.likeliest(hidden[None], None, 1e-5, Workspace(1))[0]
    assert len(ids) < rows / 50


def test_margin_reaches_below_the_likeliest(tier, rng):
    weights = stored(rng.standard_normal((3000, 100)) * 0.1, "F32")
    hidden = rng.standard_normal(100).astype(np.float32)
    expected = full_head(hidden, None, weights, "F32")
    ids, _ = ScreenedHead(weights, "F32", 1).likeliest(
        hidden[None], None, 1e-5, Workspace(1), 1, 1.5
    )[0]
    assert set(np.flatnonzero(expected >= expected.max() - 1.5)) <= set(ids)


def test_equal_rows_are_all_there(tier, rng):
    row = rng.standard_normal(64).astype(np.float32)
    weights = np.vstack([row * np.float32(0.5)] * 40 + [row] * 3 + [row * np.float32(0.5)] * 40)
    hidden = row.copy()
    ids, logits = ScreenedHead(weights, "F32", 1).likeliest(hidden[None], None, 1e-5, Workspace(1))[
        0
    ]
    assert {40, 41, 42} <= set(ids)
    assert len(np.unique(logits[np.isin(ids, [40, 41, 42])])) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_bounds_fail_all_rows_are_computed(tier, rng, bad):
    weights = rng.standard_normal((50, 32)).astype(np.float32)
    hidden = rng.standard_normal(32).astype(np.float32)
    hidden[3] = bad
    ids, _ = ScreenedHead(weights, "F32", 1).likeliest(hidden[None], None, 1e-5, Workspace(1))[0]
    assert len(ids) == 50
    weights[7, 7] = bad
    ones = np.ones(32, np.float32)
    expected = full_head(ones, None, weights, "F32")
    ids, logits = ScreenedHead(weights, "F32", 1).likeliest(ones[None], None, 1e-5, Workspace(1))[0]
    assert np.array_equal(logits, expected[ids], equal_nan=True)
    assert 7 in ids


def test_bounds_hold_for_every_row(tier, rng):
    """The honest bound itself, against float64: worst cases of both roundings."""
    columns = 999
    weights = rng.choice([-1.0, 1.0, 0.5 / 127, 63.5 / 127, 126.5 / 127], (400, columns))
    weights = (weights * rng.lognormal(0, 2, (400, 1))).astype(np.float32)
    hidden = rng.choice([1.0, -1.0, 0.49, 1e-3], columns).astype(np.float32)
    head = ScreenedHead(weights, "F32", 1)
    exact = weights.astype(np.float64) @ hidden.astype(np.float64)
    head.likeliest(hidden[None], None, 1e-5, Workspace(1))[0]
    lower, upper = head.bounds
    assert (lower <= exact).all()
    assert (exact <= upper).all()


def test_packing_is_the_same_for_any_number_of_threads(rng):
    weights = rng.standard_normal((100, 30)).astype(np.float32)
    one, two = (packing.pack_screen(weights, "F32", n) for n in (1, 2))
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()


def test_several_hidden_states_as_each_alone(tier, rng):
    weights = rng.standard_normal((700, 90)).astype(np.float32)
    head = ScreenedHead(weights, "F32", 1)
    hidden = rng.standard_normal((7, 90)).astype(np.float32)
    together = head.likeliest(hidden, None, 1e-5, Workspace(2), 3)
    for i in range(7):
        ((ids, logits),) = head.likeliest(hidden[i : i + 1], None, 1e-5, Workspace(1), 3)
        assert (together[i][0] == ids).all()
        assert (together[i][1] == logits).all()


@pytest.mark.parametrize(
    ("rows", "hidden"),
    [
        ([[1e32, 0.0], [9e29, 0.0]], [1e-3, 0.0]),  # rows beyond what codes can hold
        ([[2.0**-89, 0.0], [2.0**-90, 0.0]], [2.0**-60, 0.0]),  # subnormal products
        ([[1e-30, 1e-30], [2e-30, -1e-30], [-1.0, 0.0]], [1.0, 1.0]),  # rows of next to nothing
        ([[1.0, 1.0], [2.0, 0.0]], [1e20, 1e19]),
        ([[1e19, 1.0], [1e19, 2.0]], [1e14, 1e14]),
        ([[0.0, 0.0], [-1e-38, 0.0]], [1.0, 1.0]),
    ],
)
def test_extreme_magnitudes(tier, rows, hidden):
    weights, x = np.array(rows, np.float32), np.array(hidden, np.float32)
    expected = full_head(x, None, weights, "F32")
    ((ids, logits),) = ScreenedHead(weights, "F32", 1).likeliest(x[None], None, 1e-5, Workspace(1))
    assert expected.argmax() in ids
    assert (logits == expected[ids]).all()


def test_weights_that_are_not_finite_are_known(rng):
    weights = rng.standard_normal((40, 8)).astype(np.float32)
    assert ScreenedHead(weights, "F32", 1).finite
    for bad in (np.nan, np.inf):
        spoilt = weights.copy()
        spoilt[33, 5] = bad
        assert not ScreenedHead(spoilt, "F32", 1).finite
