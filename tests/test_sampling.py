"""The sampler alone, on logits made for the purpose."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ryzanstein_llm.errors import FormatError, InvalidParameterError
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.kernels.elementwise import softmax_weights
from ryzanstein_llm.sampling import Sampler, SamplingParams


def greedily(
    params: dict[str, Any], logits: np.ndarray, prompt: list[int], count: int
) -> list[int]:
    """So many tokens after a prompt, each from the same logits."""
    sampler, tokens = Sampler(SamplingParams(**params)), list(prompt)
    for index in range(count):
        sampler.query(tokens, len(prompt))
        tokens.append(sampler.choose(of_all(logits), index))
    return tokens[len(prompt) :]


def of_all(logits: np.ndarray) -> Candidates:
    """As of the whole vocabulary."""
    return Candidates(None, logits)


LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))


def drawn(options: dict[str, Any], logits: np.ndarray = LOGITS, times: int = 4000) -> Counter[int]:
    sampler = Sampler(SamplingParams(seed=1, **options))
    return Counter(sampler.choose(of_all(logits), index) for index in range(times))


def test_frequencies_are_the_probabilities():
    counts = drawn({"temperature": 1.0}, times=20_000)
    for token, probability in enumerate(np.exp(LOGITS)):
        deviation = (probability * (1 - probability) / 20_000) ** 0.5
        assert abs(counts[token] / 20_000 - probability) < 5 * deviation


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.49}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"min_p": 0.3}, {0, 1, 2}),
        ({"min_p": 0.31}, {0, 1}),
        # top_k first: of 0.5, 0.25, 0.15 (then 0.56, 0.28, 0.17) two reach 0.8
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
        # surprises 0.69 1.39 1.90 2.81 3.22 bits of nats around an entropy of 1.28
        ({"typical_p": 0.2}, {1}),
        ({"typical_p": 0.7}, {0, 1}),
    ],
)
def test_what_is_kept(options, kept):
    assert set(drawn({"temperature": 1.0, **options})) == kept


def test_temperature_sharpens_and_flattens():
    cold, warm = drawn({"temperature": 0.5}), drawn({"temperature": 3.0})
    assert cold[0] > 2500 > warm[0]


@pytest.mark.parametrize("temperature", [1e-46, 1e-40, 1e-31, 1e-29])
def test_next_to_no_temperature_is_greedy(temperature):
    assert set(drawn({"temperature": temperature}, times=20)) == {0}


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 2}])
def test_logits_that_are_not_finite_are_refused(options, bad):
    logits = LOGITS.copy()
    logits[3] = bad
    with pytest.raises(FormatError, match="not finite"):
        Sampler(SamplingParams(seed=1, **options)).choose(of_all(logits), 0)


def test_penalties():
    logits = np.array([1.0, 1.5, -1.0, -2.0, 2.9], np.float32)
    assert greedily({"repetition_penalty": 2.0}, logits, [4], 1) == [1]  # 2.9 / 2 < 1.5
    logits = np.array([1.0, 0.5, 0.0], np.float32)
    assert greedily({"frequency_penalty": 0.4}, logits, [], 4) == [0, 0, 1, 0]
    assert greedily({"presence_penalty": 0.6}, logits, [], 3) == [0, 1, 0]


def test_a_choice_can_be_made_again():
    """As after an interrupt: the same, whatever was drawn since."""
    sampler = Sampler(SamplingParams(temperature=1.0, seed=3))
    first = [sampler.choose(of_all(LOGITS), index) for index in range(50)]
    assert [sampler.choose(of_all(LOGITS), index) for index in reversed(range(50))] == first[::-1]
    sampler.forget()
    assert sampler.choose(of_all(LOGITS), 49) == first[49]


def test_logits_are_left_alone():
    logits = LOGITS.copy()
    params = SamplingParams(temperature=1.0, repetition_penalty=1.5, presence_penalty=1.0)
    sampler = Sampler(params)
    sampler.query([1], 1)
    sampler.choose(of_all(logits), 0)
    assert (logits == LOGITS).all()


def test_equal_logits_are_equally_likely_and_ordered_by_id():
    counts = drawn({"temperature": 1.0, "top_k": 2}, np.zeros(5, np.float32))
    assert set(counts) == {0, 1}
    assert drawn({"temperature": 1.0, "top_k": 1}, np.array([-0.0, 0.0], np.float32)) == {0: 4000}


def test_softmax_weights_of_the_largest_is_one():
    weights, total = softmax_weights(LOGITS)
    assert weights[0] == 1
    assert abs(total - 2) < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": 101}, {"top_k": -1},
        {"top_k": 1.5}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 2},
        {"typical_p": 0}, {"repetition_penalty": 0}, {"repetition_penalty": 1e-46},
        {"presence_penalty": float("inf")}, {"frequency_penalty": "1"}, {"seed": -1},
        {"seed": 1 << 64},
    ],
)  # fmt: skip
def test_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(InvalidParameterError, match=name):
        SamplingParams(**wrong)
