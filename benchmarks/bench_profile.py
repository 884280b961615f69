"""4. Where the time goes: the built-in profiler for decoding and for a prompt, and hardware
counters where there are any."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from benchmarks.six import counters
from benchmarks.six.criteria import Criteria
from benchmarks.six.subject import Subject
from ryzanstein_llm.bench.cases import prompt
from ryzanstein_llm.profiling import Profile

CONTEXT, TOKENS, PROMPT = 16, 32, 512
GIGABYTES = 40  # a second: of the criteria
SHARE = 0.85  # of the streaming read: what a product that memory limits is expected to reach
COUNTED = {
    "cycles an instruction": "< 2",
    "branch misses": "< 5 %",
    "L1 hits": "> 85 %",
    "L2 hits": "> 70 %",
}


def profiled(subject: Subject, kind: str, turn: int = 0) -> Profile:
    """Of `TOKENS` tokens after `CONTEXT`, or of a prompt that no turn before had, since keys and
    values of the same one would be used again."""
    model = subject.model
    length = CONTEXT if kind == "decode" else min(PROMPT, model.context_length - 1)
    new = TOKENS if kind == "decode" else 0
    with model.session() as session:
        stream = session.stream(prompt(model, length, turn), max_tokens=new + 1, ignore_eos=True)
        if kind == "decode":
            next(stream)  # the prompt, and the first token
        with model.profile() as profile:
            for _ in stream:
                pass
    return profile


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_profile_of(
    kind: str, benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    found: list[Profile] = []
    before = subject.limits()
    benchmark.pedantic(
        lambda: found.append(profiled(subject, kind, len(found))), rounds=3, warmup_rounds=1
    )
    profile = sorted(found[1:] or found, key=lambda profile: profile.seconds)[len(found[1:]) // 2]
    (phase,) = profile.phases
    assert phase.name == ("decode" if kind == "decode" else "prompt")
    show(f"{subject.name}, {subject.setting}\n{profile.text(before)}")

    nbytes = sum(operation.bytes for operation in phase.operations)
    products = sum(o.multiply_adds for o in phase.operations if o.kind == "int8")
    benchmark.extra_info |= subject.facts(
        profile=profile.to_dict(),
        limit_bytes_per_second=before.bytes_per_second,
        limit_multiply_adds_per_second=before.multiply_adds_per_second,
        mbu=nbytes / phase.seconds / before.bytes_per_second,
        fraction_of_peak=products / phase.seconds / before.multiply_adds_per_second,
    )
    named = 100 * phase.seconds / profile.seconds
    criteria.above(f"{kind}: time that has a name, in %", named, 98, "%")
    criteria.check()


def test_bandwidth_of_the_largest_product(
    benchmark: Any, subject: Subject, criteria: Criteria
) -> None:
    """Of the products of decoding, the one that takes longest."""
    limit = subject.limits().bytes_per_second / 1e9
    what, bound = "GB/s of the largest product", f"> {GIGABYTES} GB/s"
    if subject.reference and SHARE * limit < GIGABYTES:
        why = (
            f"memory gives {limit:.1f} GB/s to {subject.model.n_threads} threads: "
            f"{SHARE:g} of that is below"
        )
        criteria.skip(why, {what: bound})
    found: list[Profile] = []
    benchmark.pedantic(lambda: found.append(profiled(subject, "decode")), rounds=3, warmup_rounds=1)
    products = [
        max(
            (o for o in profile.phases[0].operations if o.kind == "int8" and "head" not in o.name),
            key=lambda operation: operation.seconds,
        )
        for profile in found[1:] or found
    ]
    reached = median(product.bytes_per_second / 1e9 for product in products)
    benchmark.extra_info |= subject.facts(
        product=products[0].title, gigabytes_per_second=reached, limit_bytes_per_second=1e9 * limit
    )
    criteria.above(what, reached, GIGABYTES, "GB/s")
    criteria.check()


def test_hardware_counters(benchmark: Any, subject: Subject, criteria: Criteria) -> None:
    """CPI, branches and caches of decoding, without start and warm-up."""
    why = counters.why_not()
    if why is not None:
        criteria.skip(why, COUNTED)
    events = [*counters.EVENTS, *(event for pair in counters.L2_EVENTS for event in pair)]
    workload = ["--kind", "decode", "--amount", str(TOKENS), "--repetitions", "4"]
    workload += ["--threads", str(subject.model.n_threads)]
    workload += [] if subject.path is None else ["--model", str(subject.path)]
    found = benchmark.pedantic(counters.count_events, args=(events, workload), rounds=1)
    rates = (
        found.cycles_per_instruction,
        found.branch_miss_rate,
        found.l1_hit_rate,
        found.l2_hit_rate,
    )
    for (what, bound), rate in zip(COUNTED.items(), rates, strict=True):
        number = float(bound.split()[1])
        if rate is None:
            criteria.not_shown(what, "perf does not count its events on this CPU", bound)
        elif bound.startswith("<"):
            value = rate if what.startswith("cycles") else 100 * rate
            criteria.below(what, value, number, bound[-1].strip("2"))
        else:
            criteria.above(what, 100 * rate, number, "%")
    benchmark.extra_info |= subject.facts(counters=dict(found.values))
    criteria.check()
