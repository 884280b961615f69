"""5. Cache effectiveness: prefetch on against off, in turns; miss rates where they can be counted;
simulated accesses (slow: `-m slow`)."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from benchmarks.six import cachegrind, counters
from benchmarks.six.criteria import Criteria
from benchmarks.six.rounds import in_turns, ratio
from benchmarks.six.subject import Subject
from ryzanstein_llm.bench.cases import Decode, Prefill, Sequences
from ryzanstein_llm.kernels import cpu

ROUNDS, CONTEXT, TOKENS, PROMPT = 7, 16, 16, 128
CACHE_EVENTS = ("L1-dcache-loads", "L1-dcache-load-misses", "cache-references", "cache-misses")


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_prefetch_on_against_off(
    kind: str, benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    model, engine = subject.model, subject.engine()
    case: Any = Prefill(model, min(PROMPT, model.context_length))
    if kind == "decode":
        case = Decode(Sequences(model, CONTEXT), TOKENS)
    outputs = []

    def run(on: bool) -> float:
        cpu.use_prefetch(on)
        try:
            measured = case.measure(engine, model.n_threads)
        finally:
            cpu.use_prefetch(True)
        outputs.append(measured.output)
        return float(measured.amount / measured.seconds)

    found = in_turns({"on": lambda: run(True), "off": lambda: run(False)}, ROUNDS)
    benchmark.pedantic(run, args=(True,), rounds=3)
    criteria.holds(
        f"{kind}: the same output with and without", all(o == outputs[0] for o in outputs)
    )
    gain = ratio(found["on"], found["off"])
    show(
        f"prefetch, {kind}: on {median(found['on']):.1f}, off {median(found['off']):.1f} tokens/s, "
        f"{gain:.2f} x\n"
    )
    benchmark.extra_info |= subject.facts(
        tokens_per_second=median(found["on"]),
        tokens_per_second_without=median(found["off"]),
        prefetch_gain=gain,
    )
    criteria.check()


def test_miss_rates(benchmark: Any, subject: Subject, criteria: Criteria, show: Any) -> None:
    """By hardware counters, with prefetch and without."""
    why = counters.why_not("L1-dcache-loads")
    if why is not None:
        criteria.skip(why, {"miss rates with prefetch and without": ""})
    workload = ["--amount", str(TOKENS), "--repetitions", "8"]
    workload += ["--threads", str(subject.model.n_threads)]
    workload += [] if subject.path is None else ["--model", str(subject.path)]

    def count(switch: str) -> Any:
        return counters.count_events(CACHE_EVENTS, workload, {"RYZANSTEIN_PREFETCH": switch})

    found = {"on": benchmark.pedantic(count, args=("1",), rounds=1), "off": count("0")}
    for name, counts in found.items():
        last = counts.share("cache-misses", "cache-references")
        show(
            f"prefetch {name}: L1 hits {_percent(counts.l1_hit_rate)}, "
            f"misses of cache references {_percent(last)}\n"
        )
    benchmark.extra_info |= subject.facts(
        counters={name: dict(counts.values) for name, counts in found.items()}
    )


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["avx2", "scalar"])
def test_simulated_accesses(
    tier: str, benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    """Of the demo model whatever is measured otherwise: a simulated instruction takes fifty."""
    why = cachegrind.why_not()
    if why is None and tier not in cpu.available_tiers():
        why = f"this CPU cannot run {tier}"
    if why is not None:
        criteria.skip(why, {f"simulated accesses, {tier}": ""})
    workload = ["--amount", "8", "--threads", "1", "--warm-up", "0"]
    kernels, process = benchmark.pedantic(cachegrind.simulate, args=(tier, workload), rounds=1)
    show(
        f"cachegrind, {tier} (it has no AVX-512 and ignores prefetches): kernels "
        f"{kernels.instructions / 1e6:.0f} M instructions, {kernels.reads / 1e6:.0f} M reads, "
        f"D1 hits {kernels.d1_hit_rate:.1%}, of the rest LL hits {kernels.ll_hit_rate:.1%}; "
        f"process {process.instructions / 1e6:.0f} M instructions\n"
    )
    criteria.holds(f"{tier}: the simulation saw the kernels", kernels.reads > 0)
    benchmark.extra_info |= subject.facts(
        simulated_tier=tier,
        d1_hit_rate=kernels.d1_hit_rate,
        ll_hit_rate=kernels.ll_hit_rate,
        instructions=kernels.instructions,
        reads=kernels.reads,
    ) | {"tier": tier, "of": "demo"}
    criteria.check()


def _percent(share: float | None) -> str:
    return "not counted" if share is None else f"{share:.1%}"
