"""A draw from the largest weights gives what a draw from all gives, or says that it cannot tell."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.kernels.elementwise import cumulative_sum
from ryzanstein_llm.sampling import Sampler, SamplingParams
from ryzanstein_llm.sampling.draw import draw_among
from ryzanstein_llm.sampling.seen import Seen

PARAMS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=1.0, top_p=0.95),
    SamplingParams(temperature=1.0, top_p=0.5),
    SamplingParams(temperature=1.0, top_p=0.9, min_p=0.1),
]


def place_of_all(weights: np.ndarray, params: SamplingParams, random: float) -> int:
    """The definition, on all weights in falling order."""
    sums = np.cumsum(weights.astype(np.float64))
    count = len(weights)
    if params.top_p < 1:
        count = int(np.searchsorted(sums, params.top_p * sums[-1])) + 1
    if params.min_p > 0:
        count = min(count, int((weights >= np.float32(params.min_p) * weights[0]).sum()))
    place = int(np.searchsorted(sums[:count], random * sums[count - 1], side="right"))
    return min(place, count - 1)


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("spread", [0.5, 2.0, 5.0])
def test_a_certain_place_is_that_of_all_weights(rng, params, spread):
    certain = 0
    for _ in range(400):
        logits = np.sort(rng.normal(0, spread, 300).astype(np.float32))[::-1]
        weights = np.exp(logits - logits[0])
        known = int(rng.integers(1, 300))
        loose = rng.choice([1.0, 1.5, 20.0])
        head, sums = weights[:known], cumulative_sum(weights[:known])
        rest = float(weights[known:].astype(np.float64).sum() * loose)
        random = rng.random()
        outcome = draw_among(head, sums, float(sums[-1]), rest, params, random)
        if outcome.place is not None:
            certain += 1
            assert outcome.place == place_of_all(weights, params, random)
        else:
            assert outcome.largest_rest >= 0
    assert certain > 10


@pytest.mark.parametrize("params", PARAMS[:3])  # what min_p cuts off is not estimated
def test_the_estimate_of_the_rest_is_small_enough(rng, params):
    tried = 0
    for _ in range(300):
        weights = np.sort(rng.exponential(1, 60).astype(np.float32) ** 4)[::-1].copy()
        sums = cumulative_sum(weights)
        random, known = rng.random(), float(sums[-1])
        outcome = draw_among(weights, sums, known, known * 5, params, random)
        if outcome.place is None and outcome.largest_rest < known / 5:
            tried += 1
            again = draw_among(weights, sums, known, outcome.largest_rest, params, random)
            assert again.place is not None
    assert tried > 10


def test_a_rest_at_the_border_is_not_certain():
    weights = np.array([0.5, 0.25], np.float32)
    sums = cumulative_sum(weights)
    params = SamplingParams(temperature=1.0)
    assert draw_among(weights, sums, 0.75, 0.0, params, 0.6).place == 0
    # of a sum of 0.85, 0.6 is 0.51: the second token
    assert draw_among(weights, sums, 0.75, 0.1, params, 0.6).place is None
    assert draw_among(weights, sums, 0.75, 0.08, params, 0.6).place == 0


def test_a_draw_beyond_what_is_known_is_not_certain():
    weights = np.array([0.5, 0.25], np.float32)
    params = SamplingParams(temperature=1.0)
    outcome = draw_among(weights, cumulative_sum(weights), 0.75, 0.75, params, 0.9)
    assert outcome.place is None


class TestQueries:
    def answered(self, sampler: Sampler, tokens: list[int], certain: bool) -> bool:
        """Whether the next query asks for a draw, which is answered like this."""
        query = sampler.query(tokens, 1)
        if query.draw is None:
            assert query.count is None
            return False
        logits = np.array([9, 0, 0, 0] if certain else [0, 0, 0, 0], np.float32)
        rest = 9.0 - 20 if certain else 20.0
        candidates = Candidates(np.arange(4), logits, -1.0, rest)
        assert (query.draw.largest_rest(candidates) == np.inf) == certain
        return True

    def test_a_draw_that_is_certain_is_asked_for_each_time(self):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
        assert all(self.answered(sampler, [1] * n, True) for n in range(1, 50))

    def test_breaks_grow_while_draws_are_not_certain(self):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
        asked = [n for n in range(1, 250) if self.answered(sampler, [1] * n, False)]
        assert np.diff(asked).tolist() == [2, 4, 8, 16, 32, 64, 65]

    def test_after_a_certain_draw_breaks_begin_anew(self):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
        asked = [n for n in range(1, 20) if self.answered(sampler, [1] * n, False)]
        at = asked[-1] + 1
        while not self.answered(sampler, [1] * at, True):
            at += 1
        assert self.answered(sampler, [1] * (at + 1), False)

    def test_the_choice_is_the_one_that_was_certain(self):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
        query = sampler.query([1], 1)
        candidates = Candidates(np.array([3, 70]), np.array([0, 50], np.float32), -1.0, 20.0)
        assert query.draw is not None
        assert query.draw.largest_rest(candidates) == np.inf
        assert sampler.choose(candidates, 0) == 70

    @pytest.mark.parametrize("index", range(40))
    def test_a_draw_counts_tokens_that_are_not_there_any_more(self, index):
        """The number that is drawn is the one for the index, not for the number of tokens."""
        params = SamplingParams(temperature=1.0, seed=1)
        drawing, plain = Sampler(params), Sampler(params)
        query = drawing.query([1, 1, 1], 1, (), index)
        some = Candidates(np.arange(3), np.array([1, 1.1, 0.9], np.float32), 0.5, -60.0)
        assert query.draw is not None
        assert query.draw.largest_rest(some) == np.inf
        every = Candidates(None, np.array([1, 1.1, 0.9, -60, -60], np.float32))
        assert drawing.choose(some, index) == plain.choose(every, index)

    def test_where_tokens_are_guessed_there_is_no_draw(self):
        """Its answer would hold for one place."""
        query = Sampler(SamplingParams(temperature=1.0)).query([1], 1, [2, 3])
        assert (query.draw, query.count) == (None, None)

    def test_logits_that_are_not_finite_need_no_more(self):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
        query = sampler.query([1], 1)
        candidates = Candidates(np.array([3]), np.array([np.inf], np.float32), 0.0, 1.0)
        assert query.draw is not None
        assert query.draw.largest_rest(candidates) == np.inf

    @pytest.mark.parametrize(
        "options",
        [{"top_k": 5}, {"typical_p": 0.9}, {"min_p": 0.1}, {"temperature": 0.0}],
    )
    def test_other_choices_need_no_draw(self, options):
        sampler = Sampler(SamplingParams(**{"temperature": 1.0, **options}))
        assert sampler.query([1], 1).draw is None


def test_seen_tokens_are_counted_in_order(rng):
    tokens = rng.integers(0, 40, 300).tolist()
    seen, counted = Seen(), Counter(tokens)
    seen.add(tokens[:50])
    seen.add([])
    for token in tokens[50:]:
        seen.add([token])
    assert seen.ids.tolist() == sorted(counted)
    assert seen.counts.tolist() == [counted[token] for token in sorted(counted)]
