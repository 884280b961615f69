"""1. Single-token latency: `generate("", max_tokens=1)`, nothing reused, against the baseline."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.six.baseline import Baseline
from benchmarks.six.criteria import Criteria
from benchmarks.six.roofline import mean
from benchmarks.six.subject import Subject

ROUNDS = 100
BASELINE_ROUNDS = 3


def test_single_token_latency(benchmark: Any, subject: Subject, criteria: Criteria) -> None:
    model = subject.model
    first = [] if model.start_id is None else [model.start_id]
    results = []

    times: list[float] = []

    def one_token() -> None:
        start = time.perf_counter()
        results.append(model.generate("", max_tokens=1, ignore_eos=True, return_result=True))
        times.append(time.perf_counter() - start)

    before = subject.limits()
    benchmark.pedantic(one_token, rounds=ROUNDS, warmup_rounds=5)
    after = subject.limits()
    seconds = median(times[-ROUNDS:])
    for result in results:
        assert result.reused_tokens == 0
        assert result.ids == results[0].ids

    baseline, measured, expected = Baseline(model.graph), [], model.forward(first, logits="last")[0]
    for _ in range(BASELINE_ROUNDS):
        run = baseline.last_logits(first)
        measured.append(run)
        one_token()
        cosine = float(np.dot(run.logits, expected)) / float(
            np.linalg.norm(run.logits) * np.linalg.norm(expected)
        )
        assert cosine > 0.99, "the baseline computes another model"
    slow = median(run.seconds for run in measured)
    unpacking = median(run.unpacking_seconds for run in measured)

    nbytes = subject.bytes_of_token(first)
    limits = mean(before, after)
    limit = limits.bytes_per_second
    benchmark.extra_info |= subject.facts(
        seconds=seconds,
        tokens_per_second=1 / seconds,
        bytes_per_token=nbytes,
        limit_bytes_per_second=limit,
        mbu=nbytes / seconds / limit,
        of_limit={"a token": 1 / seconds / subject.roofline(first)(limits)},
        baseline_seconds=slow,
        baseline_unpacking_seconds=unpacking,
        times_baseline=slow / seconds,
    )
    criteria.below("a token, in ms", 1e3 * seconds, 500, "ms")
    criteria.above("tokens/s", 1 / seconds, 2, "tokens/s")
    criteria.above(
        "times the baseline (scalar, 1 thread, weights already floats)",
        slow / seconds, 4, "x", anywhere=True,
    )  # fmt: skip
    criteria.check()
