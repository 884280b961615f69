"""What the screen says of the rows that a search left out."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels.head import ScreenedHead
from ryzanstein_llm.kernels.head_rest import STEPS, STEPS_PER_UNIT, HeadRest
from ryzanstein_llm.kernels.linear import norm_dense
from ryzanstein_llm.kernels.workspace import Workspace

ROWS, COLUMNS, TEMPERATURE = 5_003, 96, 0.7


@pytest.fixture
def head(rng) -> ScreenedHead:
    weights = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    return ScreenedHead(weights / np.float32(COLUMNS**0.5), "F32", 2)


def all_logits(head: ScreenedHead, hidden: np.ndarray) -> np.ndarray:
    out = np.empty((len(hidden), ROWS), np.float32)
    norm_dense(hidden, None, 1e-5, head.weights, "F32", out, Workspace(1))
    return out


def searched(head, rng, *, tokens=1, token=0, excluded=None, size=4.0):
    """(rest, what the search found, all logits) of one of some hidden states."""
    hidden = (size * rng.standard_normal((tokens, COLUMNS))).astype(np.float32)
    workspace = Workspace(2)
    allowed = None if excluded is None else [~excluded] * tokens
    found = head.likeliest(hidden, None, 1e-5, workspace, allowed=allowed)[token]
    rest = HeadRest(head, workspace, token, TEMPERATURE)
    _, upper = head.bounds(workspace)
    return rest, found, all_logits(head, hidden)[token], upper[token]


def steps_of(rest: HeadRest, upper: np.ndarray) -> np.ndarray:
    below = (np.float64(rest.reference) - upper) / TEMPERATURE * STEPS_PER_UNIT
    return np.where(below > 0, np.minimum(1 + np.floor(below), STEPS - 1), 0).astype(int)


@pytest.mark.parametrize(("tokens", "token"), [(1, 0), (3, 1), (7, 6)])
def test_rows_are_counted_by_their_upper_bounds(tier, head, rng, tokens, token):
    rest, (ids, _), _, upper = searched(head, rng, tokens=tokens, token=token)
    counts = rest.counts()
    expected = np.bincount(steps_of(rest, upper), minlength=STEPS)
    # a bound at the border of two steps may be rounded to either
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 3
    assert counts.sum() == ROWS
    assert counts[0] == len(ids) == expected[0]


@pytest.mark.parametrize(("tokens", "token"), [(1, 0), (3, 1)])
def test_steps_hold_all_other_rows_with_their_exact_logits(tier, head, rng, tokens, token):
    rest, (ids, logits), every, _ = searched(head, rng, tokens=tokens, token=token)
    counts = rest.counts()
    middle = int(np.searchsorted(np.cumsum(counts), 700))
    near, near_logits = rest.rows(1, middle)
    far, far_logits = rest.rows(middle + 1, STEPS - 1)
    assert len(near) == counts[1 : middle + 1].sum() > 0 < len(far)
    for some, values in ((ids, logits), (near, near_logits), (far, far_logits)):
        assert (np.diff(some) > 0).all()
        assert np.array_equal(values, every[some])
    assert np.array_equal(np.sort(np.concatenate([ids, near, far])), np.arange(ROWS))


@pytest.mark.parametrize("size", [0.5, 4.0, 30.0])
def test_counts_bound_the_sum_of_all_weights_left_out(tier, head, rng, size):
    rest, (ids, _), every, _ = searched(head, rng, size=size)
    counts = rest.counts()
    weights = np.exp((every.astype(np.float64) - rest.reference) / TEMPERATURE)
    known = np.zeros(ROWS, bool)
    known[ids] = True
    for step in range(STEPS - 1):
        most = counts * np.exp(-(np.maximum(np.arange(STEPS) - 1, 0)) / STEPS_PER_UNIT)
        assert weights[~known].sum() <= most[step + 1 :].sum() * (1 + 1e-4)
        known[rest.rows(step + 1, step + 1)[0]] = True


def test_rows_that_are_not_allowed_do_not_count(tier, head, rng):
    excluded = rng.random(ROWS) < 0.3
    rest, (ids, _), _, _ = searched(head, rng, excluded=excluded)
    assert rest.counts().sum() == ROWS - excluded.sum()
    others, _ = rest.rows(1, STEPS - 1)
    assert not excluded[ids].any()
    assert not excluded[others].any()


def test_counts_and_rows_are_equal_in_every_tier_and_number_of_threads(head):
    found = []
    for threads in (1, 2):
        hidden = np.random.default_rng(5).standard_normal((2, COLUMNS)).astype(np.float32)
        workspace = Workspace(threads)
        head.likeliest(hidden, None, 1e-5, workspace)
        rest = HeadRest(head, workspace, 1, TEMPERATURE)
        found.append((rest.counts(), *rest.rows(1, 40)))
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)
