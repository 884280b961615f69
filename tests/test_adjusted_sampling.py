"""The sampler with biases, bans and functions of the caller, on logits made for the purpose.

Frequencies are compared with closed forms by Pearson's chi-square on fixed seeds. The bounds are
the 0.999 quantiles of the chi-square distribution (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ryzanstein_llm.errors import FormatError, InvalidParameterError
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.sampling import Adjustments, Sampler, SamplingParams, log_probabilities

PROBABILITIES = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
LOGITS = np.log(PROBABILITIES).astype(np.float32)
BIAS = {1: 1.5, 3: -0.5, 4: -100.0}
TIMES = 20_000
CHI_SQUARE = {0: 0.0, 1: 10.828, 2: 13.816, 3: 16.266, 4: 18.467, 5: 20.515}  # by freedom


def draws(options: dict[str, Any], adjustments: Adjustments, logits: np.ndarray = LOGITS) -> Any:
    sampler = Sampler(SamplingParams(seed=7, **options), adjustments)
    sampler.query([], 0)
    chosen = [sampler.choose(Candidates(None, logits), index) for index in range(TIMES)]
    return np.bincount(chosen, minlength=len(logits))


def biased(temperature: float) -> np.ndarray:
    """The probabilities with BIAS, in float64."""
    logits = np.log(PROBABILITIES)
    for token, value in BIAS.items():
        logits[token] += value if value > -100 else -np.inf
    weights = np.exp(logits / temperature)
    return weights / weights.sum()


def only(probabilities: np.ndarray, kept: list[int]) -> np.ndarray:
    found = np.zeros_like(probabilities)
    found[kept] = probabilities[kept]
    return found / found.sum()


def likeliest_first(probabilities: np.ndarray) -> list[int]:
    return np.argsort(-probabilities).tolist()


def top_p(probabilities: np.ndarray, p: float) -> np.ndarray:
    order = likeliest_first(probabilities)
    count = int(np.searchsorted(np.cumsum(probabilities[order]), p)) + 1
    return only(probabilities, order[:count])


def min_p(probabilities: np.ndarray, p: float) -> np.ndarray:
    return only(probabilities, np.flatnonzero(probabilities >= p * probabilities.max()).tolist())


def typical(probabilities: np.ndarray, p: float) -> np.ndarray:
    possible = np.flatnonzero(probabilities > 0)
    surprise = -np.log(probabilities[possible])
    entropy = np.sum(probabilities[possible] * surprise)
    order = possible[np.argsort(np.abs(surprise - entropy))]
    count = int(np.searchsorted(np.cumsum(probabilities[order]), p)) + 1
    return only(probabilities, order[:count].tolist())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, biased(1.0)),
        ({"temperature": 0.6}, biased(0.6)),
        ({"temperature": 2.5}, biased(2.5)),
        ({"temperature": 1.0, "top_k": 3}, only(biased(1.0), likeliest_first(biased(1.0))[:3])),
        ({"temperature": 1.0, "top_p": 0.8}, top_p(biased(1.0), 0.8)),
        ({"temperature": 1.7, "min_p": 0.2}, min_p(biased(1.7), 0.2)),
        ({"temperature": 1.0, "typical_p": 0.7}, typical(biased(1.0), 0.7)),
    ],
)
def test_frequencies_with_a_bias_are_those_of_the_closed_form(tier, options, expected):
    counts = draws(options, Adjustments(bias=BIAS))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    wanted = TIMES * expected[possible]
    statistic = float(np.sum((counts[possible] - wanted) ** 2 / wanted))
    assert statistic <= CHI_SQUARE[int(possible.sum()) - 1]


def test_the_chi_square_would_notice_a_bias_that_is_forgotten():
    wanted = TIMES * biased(1.0)
    counts = draws({"temperature": 1.0}, Adjustments(bias={4: -100.0}))
    kept = wanted > 0
    assert np.sum((counts[kept] - wanted[kept]) ** 2 / wanted[kept]) > 10 * CHI_SQUARE[4]


def test_biases_come_before_penalties():
    """A positive logit is divided by the penalty, a negative one is multiplied: so it matters."""
    params = SamplingParams(repetition_penalty=2.0)
    sampler = Sampler(params, Adjustments(bias={0: 3.0}))
    sampler.query([0], 1)
    logits = np.array([-1.0, 0.9, 0.0], np.float32)  # (-1 + 3) / 2 = 1 > 0.9
    assert sampler.choose(Candidates(None, logits), 0) == 0


def test_the_screened_head_is_asked_for_the_tokens_of_a_bias_alone():
    sampler = Sampler(SamplingParams(), Adjustments(bias={9: 1.0, 4: -100}, ends=[2], min_tokens=2))
    query = sampler.query([5, 5], 1)
    assert query.count == 1
    assert query.also is not None and query.also.tolist() == [2, 4, 9]  # noqa: PT018
    assert sampler.query([5, 5, 5], 1).also.tolist() == [4, 9]  # two new tokens are there


@pytest.mark.parametrize("needy", [{"logprobs": 0}, {"processors": [lambda tokens, logits: None]}])
def test_logprobs_and_processors_ask_for_the_full_head(needy):
    query = Sampler(SamplingParams(), Adjustments(bias={9: 1.0}, **needy)).query([5], 1)
    assert query.count is None


def test_a_bias_counts_only_for_candidates_that_are_there():
    """Others may have been ruled out by a grammar, so that the head does not give them."""
    sampler = Sampler(SamplingParams(), Adjustments(bias={9: 50.0, 4: 5.0}))
    sampler.query([], 0)
    candidates = Candidates(np.array([1, 4, 7]), np.array([1, 0, 2], np.float32))
    assert sampler.choose(candidates, 0) == 4


def test_ends_are_banned_until_there_are_enough_tokens():
    sampler = Sampler(SamplingParams(), Adjustments(ends=[0], min_tokens=2))
    for index, token in enumerate([1, 1, 0]):
        sampler.query([5] * (1 + index), 1)
        assert sampler.choose(Candidates(None, LOGITS), index) == token


def test_a_processor_gets_all_tokens_and_a_copy_of_the_logits():
    seen = []

    def processor(tokens, logits):
        seen.append((tokens, logits.dtype, logits.shape))
        tokens.clear()
        logits[:] = -np.inf
        logits[3] = 0

    tokens, logits = [8, 9], LOGITS.copy()
    sampler = Sampler(SamplingParams(), Adjustments(processors=[processor]))
    sampler.query(tokens, 1)
    assert sampler.choose(Candidates(None, logits), 1) == 3
    assert tokens == [8, 9]
    assert (logits == LOGITS).all()
    assert seen[0][1:] == (np.float32, LOGITS.shape)


def test_processors_are_called_in_order_and_may_return_other_logits():
    first = lambda tokens, logits: np.arange(6.0)  # noqa: E731 -- float64 is taken, too
    second = lambda tokens, logits: -logits  # noqa: E731
    sampler = Sampler(SamplingParams(), Adjustments(processors=[first, second]))
    sampler.query([], 0)
    assert sampler.choose(Candidates(None, LOGITS), 0) == 0


def test_a_ban_holds_whatever_a_processor_says():
    wants = lambda tokens, logits: np.where(np.arange(6) == 2, 9.0, 0.0)  # noqa: E731
    sampler = Sampler(SamplingParams(), Adjustments(bias={2: -100}, processors=[wants]))
    sampler.query([], 0)
    assert sampler.choose(Candidates(None, LOGITS), 0) == 0


@pytest.mark.parametrize(
    "answer",
    [np.zeros(5), np.zeros((1, 6)), "logits", [0] * 6, np.full(6, np.nan), np.full(6, np.inf),
     [[0.0], [1.0, 2.0]], np.full(6, 1e300), np.full(6, 9e99, np.longdouble)],
)  # fmt: skip
def test_what_a_processor_must_not_return(answer):
    sampler = Sampler(SamplingParams(), Adjustments(processors=[lambda tokens, logits: answer]))
    sampler.query([], 0)
    with pytest.raises(InvalidParameterError, match="logits_processor") as caught:
        sampler.choose(Candidates(None, LOGITS), 0)
    assert caught.value.parameter == "logits_processor"


def reshape(logits):
    logits.shape = (1, 6)


def view_as(dtype):
    def change(logits):
        logits.dtype = dtype

    return change


CHANGES = {
    "shape": reshape,
    "fewer": lambda logits: logits.resize(3, refcheck=False),
    "none": lambda logits: logits.resize(0, refcheck=False),
    "more": lambda logits: logits.resize(60, refcheck=False),
    **{name: view_as(name) for name in ("float16", "float64", "int32", ">f4", "complex64")},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("allowed", [None, np.ones(6, np.bool_)])
@pytest.mark.filterwarnings("ignore:Setting the")  # NumPy 2.5 deprecates it
def test_a_processor_must_leave_shape_and_dtype_of_its_logits(name, allowed):
    processor = lambda tokens, logits: CHANGES[name](logits)  # noqa: E731
    sampler = Sampler(SamplingParams(), Adjustments(processors=[lambda t, x: None, processor]))
    sampler.query([], 0)
    with pytest.raises(InvalidParameterError, match="has turned its logits into") as caught:
        sampler.choose(Candidates(None, LOGITS, allowed=allowed), 0)
    assert caught.value.parameter == "logits_processor"


def test_a_logit_too_small_for_float32_rules_its_token_out():
    answer = np.array([-1e300, -1e300, 0, -1e300, -1e300, -1e300])
    sampler = Sampler(SamplingParams(), Adjustments(processors=[lambda tokens, logits: answer]))
    sampler.query([], 0)
    with np.errstate(all="raise"):
        assert sampler.choose(Candidates(None, LOGITS), 0) == 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_when_nothing_is_left_the_error_says_so(temperature):
    params = SamplingParams(temperature=temperature, seed=1)
    sampler = Sampler(params, Adjustments(bias=dict.fromkeys(range(6), -100.0)))
    sampler.query([], 0)
    with pytest.raises(InvalidParameterError, match="rule out every token"):
        sampler.choose(Candidates(None, LOGITS), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_overflow_are_refused_before_anything_changes_them(bad):
    logits = LOGITS.copy()
    logits[4] = bad
    sampler = Sampler(SamplingParams(), Adjustments(bias=BIAS, logprobs=1))  # 4 is banned
    sampler.query([], 0)
    with pytest.raises(FormatError, match="not finite"):
        sampler.choose(Candidates(None, logits), 0)
    with pytest.raises(FormatError, match="not finite"):
        sampler.logprobs(Candidates(None, logits), 0)


def test_log_probabilities_are_those_of_float64(tier, rng):
    for size, scale in [(1, 1.0), (7, 1.0), (16, 30.0), (4099, 5.0), (128_256, 12.0)]:
        logits = (scale * rng.standard_normal(size)).astype(np.float32)
        exact = logits.astype(np.float64) - logits.max()
        exact -= np.log(np.exp(exact).sum())
        found = log_probabilities(logits, range(min(size, 50)))
        # a float32 sum of up to 128,256 terms in sixteen lanes
        np.testing.assert_allclose(found, exact[:50], atol=3e-6, rtol=0)


def test_log_probabilities_of_what_cannot_come_are_minus_infinity_or_far_below():
    logits = np.array([0.0, -1e30, -np.inf], np.float32)
    assert log_probabilities(logits, [0, 1, 2]) == [0.0, float(np.float32(-1e30)), -np.inf]
