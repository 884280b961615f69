"""Sampling from the screened head gives what the full head gives, for every way of sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.interfaces.head_query import Candidates
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
