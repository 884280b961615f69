"""Sampling from the screened head gives what the full head gives, for every way of sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.interfaces.head_query import Candidates, HeadQuery
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.sampling import Sampler, SamplingParams

SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9, "top_k": 40},
    {"temperature": 1.4, "top_k": 100, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9},
    {"temperature": 0.7, "min_p": 0.05},
    {"temperature": 2.0, "min_p": 0.2, "typical_p": 0.8},
    {"temperature": 1.0, "top_k": 100_000},
    {"repetition_penalty": 1.2},
    {"temperature": 0.5, "top_k": 5, "presence_penalty": 0.5},
    {"frequency_penalty": 0.1},
    {"temperature": 0.8, "min_p": 0.1, "repetition_penalty": 0.5, "presence_penalty": -0.2},
]
DRAWS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 1.0, "top_p": 0.9, "min_p": 0.1},
    {"temperature": 0.7, "repetition_penalty": 1.2},
    {"temperature": 0.7, "top_p": 0.95},
    {"temperature": 0.3, "top_p": 0.5, "frequency_penalty": 0.4},
    {"temperature": 3.0, "top_p": 0.99},
]


@pytest.fixture(scope="module")
def model():
    with BitNetModel() as model:
        yield model


@pytest.mark.parametrize("options", SAMPLINGS + DRAWS)
def test_same_tokens_as_from_all_logits(model, options):
    params = SamplingParams(seed=11, **options)
    assert Sampler(params).query([], 0).count is not None
    ids = model.tokenize("Once upon a time")
    result = model.generate(
        ids, max_tokens=40, sampling=params, ignore_eos=True, return_result=True
    )
    sampler, cache, expected = Sampler(params), model.new_cache(), []
    pending = ids
    for index in range(40):
        sampler.query([*ids, *expected], len(ids))
        logits = model.forward(pending, cache, logits="last")[0]
        token = sampler.choose(Candidates(None, logits), index)
        expected.append(token)
        pending = [token]
    assert result.ids == expected


def test_what_needs_every_logit_gets_every_logit():
    options = {"temperature": 1.0, "typical_p": 0.5}
    assert Sampler(SamplingParams(**options)).query([], 0).count is None


def test_ties_go_to_the_lowest_id():
    logits = np.array([1.0, 5.0, 5.0, 2.0], np.float32)
    assert Sampler(SamplingParams()).choose(Candidates(None, logits), 0) == 1
    assert Sampler(SamplingParams()).choose(Candidates(np.array([7, 9, 12]), logits[1:]), 0) == 7


class Uncertain:
    """A draw for which no rest is small enough."""

    temperature = 0.7

    def __init__(self) -> None:
        self.rests: list[float] = []

    def largest_rest(self, candidates: Candidates) -> float:
        self.rests.append(candidates.rest)
        return -1e9


def states_and_head(model):
    head = model.graph.head
    hidden = np.random.default_rng(2).standard_normal((3, head.hidden_size)).astype(np.float32)
    return hidden, head, Workspace(2)


def test_a_draw_that_stays_uncertain_gets_every_logit(model):
    hidden, head, workspace = states_and_head(model)
    every = head.logits(hidden, workspace)
    queries = [HeadQuery(1), HeadQuery(1, draw=Uncertain()), HeadQuery(1, draw=Uncertain())]
    queries[2].allowed = np.random.default_rng(3).random(head.vocab_size) < 0.5
    first, second, third = head.candidates(hidden, queries, workspace)
    assert first.ids is not None
    assert second.ids is None
    assert np.array_equal(second.logits, every[1])
    assert np.array_equal(third.ids, np.flatnonzero(queries[2].allowed))
    assert np.array_equal(third.logits, every[2][queries[2].allowed])


@pytest.mark.parametrize("wanted", [20.0, 5.0, 0.5])
def test_a_draw_gets_a_rest_as_small_as_it_asked_for(model, wanted):
    """The rest is at most what is asked for, and at least what the other tokens weigh."""

    class Wants(Uncertain):
        def largest_rest(self, candidates: Candidates) -> float:
            self.rests.append(candidates.rest)
            return float(np.log(wanted)) + float(candidates.logits.max()) / self.temperature

    hidden, head, workspace = states_and_head(model)
    also = np.array([4, 900])
    queries = [HeadQuery(1, also=also, draw=Wants()) for _ in hidden]
    every = head.logits(hidden, workspace).astype(np.float64)
    for logits, found in zip(every, head.candidates(hidden, queries, workspace), strict=True):
        assert found.ids is not None
        assert (np.diff(found.ids) > 0).all()
        assert np.array_equal(found.logits, logits[found.ids].astype(np.float32))
        assert set(also) <= set(found.ids.tolist())
        others = np.delete(logits, found.ids)
        assert (others < found.floor).all()
        assert np.log(np.exp(others / 0.7).sum()) <= found.rest
        assert found.rest <= np.log(wanted) + found.logits.max() / 0.7
