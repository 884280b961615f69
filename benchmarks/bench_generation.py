"""2. Multi-token generation: 50 tokens after a prompt, what the KV cache is worth, and how requests
that are not simply greedy and several sequences in one pass compare with one greedy sequence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pytest

from benchmarks.six.baseline import Baseline
from benchmarks.six.criteria import Criteria
from benchmarks.six.roofline import mean
from benchmarks.six.rounds import in_turns, ratio, seconds_of
from benchmarks.six.subject import Subject
from ryzanstein_llm import GenerationResult
from ryzanstein_llm.bench.cases import Batch, Case, Decode, Sampled, Sequences, prompt
from ryzanstein_llm.bench.plan import BATCH_CONTEXT
from ryzanstein_llm.bench.requests import SAMPLED
from ryzanstein_llm.engine.compute import new_cancel_flag
from ryzanstein_llm.profiling import Limits

TOKENS, ROUNDS = 50, 5
OPTIONS: dict[str, Any] = {
    "max_tokens": TOKENS,
    "ignore_eos": True,
    "prompt_lookup_num_tokens": 0,  # each token has a pass of its own
}
PROMPT = "Explain quantum computing"

CONTEXT, DECODED = BATCH_CONTEXT, 16
TIMES_GREEDY = {
    "top-p": 0.45, "temperature": 0.45, "repetition-penalty": 0.8, "logit-bias": 0.8,
    "logprobs": 0.4,
}  # fmt: skip
"""How many times as fast as greedy at least. Penalties and biases read what greedy tokens read,
logprobs the whole head, and draws something between."""
TIMES_ONE = {2: 1.2, 4: 1.4, 8: 1.7}
"""How many times as fast as one sequence so many together are at least."""
SHARE = 0.8  # of what the limits allow: more cannot be expected of several sequences


def test_generation_of_fifty_tokens(benchmark: Any, subject: Subject, criteria: Criteria) -> None:
    model = subject.model
    results: list[GenerationResult] = []
    given: Any = PROMPT if model.tokenizer is not None else prompt(model, 8)

    times: list[float] = []

    def fifty_tokens() -> None:
        start = time.perf_counter()
        with model.session() as session:  # new: nothing is reused
            results.append(session.generate(given, return_result=True, **OPTIONS))
        times.append(time.perf_counter() - start)

    before = subject.limits()
    benchmark.pedantic(fifty_tokens, rounds=ROUNDS, warmup_rounds=1)
    after = subject.limits()
    timed = results[-ROUNDS:]
    for result in results:
        assert len(result.ids) == TOKENS
        assert result.ids == results[0].ids
        assert result.reused_tokens == 0

    first = median(result.timings.prefill for result in timed)
    later = median(seconds for result in timed for seconds in result.timings.decode)
    rate = median(result.timings.tokens_per_second for result in timed)
    total = median(times[-ROUNDS:])
    middle = prompt(model, timed[0].prompt_tokens + TOKENS // 2)
    nbytes = subject.bytes_of_token(middle)
    limits = mean(before, after)
    limit = limits.bytes_per_second
    benchmark.extra_info |= subject.facts(
        prompt_tokens=timed[0].prompt_tokens,
        first_token_seconds=first,
        later_token_seconds=later,
        tokens_per_second=rate,
        total_seconds=total,
        bytes_per_token=nbytes,
        limit_bytes_per_second=limit,
        mbu=nbytes * rate / limit,
        of_limit={"50 tokens": rate / subject.roofline(middle)(limits)},
    )
    criteria.below("50 tokens, in s", total, 20, "s")
    criteria.above("tokens/s after the first", rate, 2.5, "tokens/s")
    criteria.check()


def test_step_at_position_fifty(benchmark: Any, subject: Subject, criteria: Criteria) -> None:
    """One more token by the cache, against computing those before it again: by this library, and
    by the baseline."""
    model, engine = subject.model, subject.engine()
    ids = prompt(model, TOKENS + 1)
    cache = model.new_cache()
    engine.last_logits(cache, ids[:-1], new_cancel_flag())
    logits = {}

    def step() -> None:
        logits["step"] = engine.last_logits(cache, ids[-1:], new_cancel_flag())
        cache.truncate(TOKENS)

    def again() -> None:
        logits["again"] = engine.last_logits(model.new_cache(), ids, new_cancel_flag())

    calls = {"step": lambda: seconds_of(step), "again": lambda: seconds_of(again)}
    found = in_turns(calls, ROUNDS)
    assert np.array_equal(logits["step"].view(np.uint32), logits["again"].view(np.uint32))
    benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=1)

    run = Baseline(model.graph).last_logits(ids)
    seconds = median(found["step"])
    benchmark.extra_info |= subject.facts(
        step_seconds=seconds,
        recomputed_seconds=median(found["again"]),
        times_recomputed=ratio(found["again"], found["step"]),
        baseline_seconds=run.seconds,
        baseline_unpacking_seconds=run.unpacking_seconds,
        times_baseline=run.seconds / seconds,
    )
    criteria.above(
        "a step at position 50, times as fast as recomputing",
        ratio(found["again"], found["step"]), 2, "x", anywhere=True,
    )  # fmt: skip
    criteria.check()


@pytest.mark.parametrize("name", SAMPLED)
def test_decoding_with(
    name: str, benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    """Drawn tokens, changed logits and logprobs, against greedy tokens in turns."""
    what, bound = f"{name}, times as fast as greedy", TIMES_GREEDY[name]
    skip_if_too_long(subject, criteria, {what: f"> {bound:g} x"})
    sequences = Sequences(subject.model, CONTEXT)
    case = Sampled(subject.model, sequences, name, DECODED)
    allowed = subject.roofline(middle_of(subject))
    found = in_turns_with_greedy(subject, case, Decode(sequences, DECODED))
    benchmark.pedantic(case.measure, args=(subject.engine(), subject.model.n_threads), rounds=3)
    gain, rate = ratio(found.rates, found.greedy), median(found.rates)
    show(f"{name}: {rate:.1f} tokens/s, {gain:.2f} x of greedy\n")
    benchmark.extra_info |= subject.facts(
        tokens_per_second=rate,
        times_greedy=gain,
        of_limit={name: ratio(found.rates, list(map(allowed, found.limits)))},
        **found.median_limits(),
    )
    criteria.above(what, gain, bound, "x")
    criteria.check()


@pytest.mark.parametrize("count", TIMES_ONE)
def test_sequences_in_one_pass(
    count: int, benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    """Against one sequence in turns."""
    what, bound = f"{count} sequences, times as fast as one", TIMES_ONE[count]
    bounds = {what: f"> {bound:g} x"}
    skip_if_too_long(subject, criteria, bounds)
    before, ids = subject.limits(), middle_of(subject)
    allowed = subject.roofline(ids, count)
    most = allowed(before) / subject.roofline(ids)(before)
    if subject.reference and SHARE * most < bound:
        why = (
            f"reading {before.bytes_per_second / 1e9:.1f} GB/s and multiplying "
            f"{before.multiply_adds_per_second / 1e9:.0f} GMAC/s allow {most:.2f} x: {SHARE:g} of "
            "that is below"
        )
        criteria.skip(why, bounds)
    sequences = Sequences(subject.model, CONTEXT)
    case = Batch(sequences, count, DECODED)
    found = in_turns_with_greedy(subject, case, Decode(sequences, DECODED))
    benchmark.pedantic(case.measure, args=(subject.engine(), subject.model.n_threads), rounds=3)
    gain, rate = ratio(found.rates, found.greedy), median(found.rates)
    show(f"{count} sequences: {rate:.1f} tokens/s, {gain:.2f} x of one\n")
    benchmark.extra_info |= subject.facts(
        batch_tokens_per_second=rate,
        times_one=gain,
        of_limit={case.name: ratio(found.rates, list(map(allowed, found.limits)))},
        **found.median_limits(),
    )
    criteria.above(what, gain, bound, "x")
    criteria.check()


def skip_if_too_long(subject: Subject, criteria: Criteria, bounds: dict[str, str]) -> None:
    length = subject.model.context_length
    if length < CONTEXT + DECODED + 2:
        criteria.skip(f"the model's context is {length} tokens", bounds)


def middle_of(subject: Subject) -> list[int]:
    """Tokens before the one in the middle of those that are decoded."""
    return prompt(subject.model, CONTEXT + 1 + DECODED // 2)


@dataclass(frozen=True)
class Turns:
    """Of each round: tokens a second of a case and of one greedy sequence, and the limits."""

    rates: list[float]
    greedy: list[float]
    limits: list[Limits]

    def median_limits(self) -> dict[str, float]:
        """For `extra_info`."""
        return {
            "limit_bytes_per_second": median(each.bytes_per_second for each in self.limits),
            "limit_multiply_adds_per_second": median(
                each.multiply_adds_per_second for each in self.limits
            ),
        }


def in_turns_with_greedy(subject: Subject, case: Case, greedy: Case) -> Turns:
    """Outputs under the same name must be the same."""
    engine, threads = subject.engine(), subject.model.n_threads
    outputs: dict[str, object] = {}

    def rate(one: Case) -> float:
        measured = one.measure(engine, threads)
        for name, value in measured.output.items():
            assert outputs.setdefault(name, value) == value, name
        return measured.amount / measured.seconds

    cases = dict(zip(("rates", "greedy", "read", "multiply"),
                     (case, greedy, *subject.limit_cases()), strict=True))  # fmt: skip
    found = in_turns({name: partial(rate, one) for name, one in cases.items()}, ROUNDS)
    limits = list(map(Limits, found["read"], found["multiply"]))
    return Turns(found["rates"], found["greedy"], limits)
