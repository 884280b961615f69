"""2. Multi-token generation: 50 tokens after a prompt, and what the KV cache is worth."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.six.baseline import Baseline
from benchmarks.six.criteria import Criteria
from benchmarks.six.rounds import in_turns, ratio, seconds_of
from benchmarks.six.subject import Subject
from ryzanstein_llm import GenerationResult
from ryzanstein_llm.bench.cases import prompt
from ryzanstein_llm.engine.compute import new_cancel_flag

TOKENS, ROUNDS = 50, 5
OPTIONS: dict[str, Any] = {
    "max_tokens": TOKENS,
    "ignore_eos": True,
    "prompt_lookup_num_tokens": 0,  # each token has a pass of its own
}
PROMPT = "Explain quantum computing"


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
    limit = (before.bytes_per_second + after.bytes_per_second) / 2
    benchmark.extra_info |= subject.facts(
        prompt_tokens=timed[0].prompt_tokens,
        first_token_seconds=first,
        later_token_seconds=later,
        tokens_per_second=rate,
        total_seconds=total,
        bytes_per_token=nbytes,
        limit_bytes_per_second=limit,
        mbu=nbytes * rate / limit,
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
