"""3. Thread scaling: prefill against cores, decoding against how bandwidth scales."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from benchmarks.six.criteria import Criteria
from benchmarks.six.subject import Subject
from ryzanstein_llm.bench.cases import Decode, Prefill, Sequences
from ryzanstein_llm.bench.figures import Row, make_rows
from ryzanstein_llm.bench.plan import Setting
from ryzanstein_llm.bench.schedule import Sample, measure_rounds
from ryzanstein_llm.bench.traffic import Traffic, bytes_per_token
from ryzanstein_llm.engine.compute import new_cancel_flag
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.profiling.costs import projection_multiply_adds
from ryzanstein_llm.system.threads import choose_threads
from ryzanstein_llm.text_table import aligned

COUNTS = (1, 2, 4, 8, 16)
CONTEXT, TOKENS, PROMPT = 16, 16, 512
ROUNDS = 5
CRITERIA = {
    4: {"prefill on 4 cores": "> 3.5 x"},
    8: {"prefill on 8 cores": "> 6.5 x", "efficiency on 8 cores, in %": "> 80 %"},
}

Rows = dict[tuple[str, int], Row]  # kind, threads


def physical_cores() -> int:
    """Cores this process may use: hardware threads of one core do not make two."""
    found = choose_threads()
    return min(found.physical_cores, found.affinity)


MEASURED = tuple(count for count in COUNTS if count <= physical_cores())


@cache
def measured(subject: Any) -> Rows:
    """Every number of threads in turns, with the limits of each, once for all tests."""
    model = subject.model
    prompt = Prefill(model, min(PROMPT, model.context_length))
    decode = Decode(Sequences(model, CONTEXT), TOKENS)
    read, multiply = subject.limit_cases()
    settings = [Setting(cpu.current_tier(), count) for count in MEASURED]
    samples = measure_rounds(
        [read, decode, multiply, prompt],
        settings,
        ROUNDS,
        lambda setting: subject.engine(setting.threads),
        lambda _: None,
        lambda: None,
    )
    layout = model.new_cache().layout

    def traffic(sample: Sample) -> Traffic:
        context = sample.size + 1 + (sample.amount + 1) / 2
        rows = sample.head_rows / sample.amount
        return bytes_per_token(model.graph, layout, context, rows, sample.densities)

    rows = make_rows(samples, projection_multiply_adds(model.graph), traffic)
    return {(row.kind, row.threads): row for row in rows}


def scaling(rows: Rows, kind: str, threads: int) -> float:
    """How many times as fast as on one thread."""
    found = rows[kind, threads].scaling
    return 1.0 if found is None else found.median


def test_scaling_as_a_whole(
    benchmark: Any, subject: Subject, criteria: Criteria, show: Any
) -> None:
    """The table."""
    most = MEASURED[-1]
    if most == 1:
        criteria.skip(
            "this process may use one core", {"decode against the scaling of bandwidth": ""}
        )
    rows = benchmark.pedantic(measured, args=(subject,), rounds=1)
    show(table(rows, MEASURED))
    share = scaling(rows, "decode", most) / scaling(rows, "read", most)
    benchmark.extra_info |= subject.facts(
        measured_threads=list(MEASURED), decode_share_of_bandwidth_scaling=share
    )


@pytest.mark.parametrize("threads", COUNTS)
def test_prefill_and_decode_on(
    threads: int, benchmark: Any, subject: Subject, criteria: Criteria
) -> None:
    cores = physical_cores()
    if threads > cores:
        why = f"this process may use {cores} physical core{'' if cores == 1 else 's'}"
        criteria.skip(why, CRITERIA.get(threads, {}))
    model, engine, rows = subject.model, subject.engine(threads), measured(subject)
    length = min(PROMPT, model.context_length)
    ids = [5] * length
    prefill, decode = rows["prefill", threads], rows["decode", threads]
    assert prefill.limit_share is not None
    assert decode.limit_share is not None
    benchmark.pedantic(
        lambda: engine.last_logits(model.new_cache(), ids, new_cancel_flag()),
        rounds=3, warmup_rounds=1,
    )  # fmt: skip
    facts = subject.facts(
        physical_cores=physical_cores(),
        prefill_tokens=length,
        prefill_tokens_per_second=prefill.rate.median,
        prefill_speedup=scaling(rows, "prefill", threads),
        prefill_efficiency=scaling(rows, "prefill", threads) / threads,
        fraction_of_peak=prefill.limit_share.median,
        decode_tokens_per_second=decode.rate.median,
        decode_speedup=scaling(rows, "decode", threads),
        bandwidth_speedup=scaling(rows, "read", threads),
        multiply_speedup=scaling(rows, "multiply", threads),
        mbu=decode.limit_share.median,
        of_limit={
            f"a prompt of {length}": prefill.limit_share.median,
            "decoding": decode.limit_share.median,
        },
        limit_bytes_per_second=rows["read", threads].rate.median,
        limit_multiply_adds_per_second=rows["multiply", threads].rate.median,
    )
    benchmark.extra_info |= facts | {"threads": threads}
    if threads == 4:
        criteria.above("prefill on 4 cores", scaling(rows, "prefill", 4), 3.5, "x")
    if threads == 8:
        criteria.above("prefill on 8 cores", scaling(rows, "prefill", 8), 6.5, "x")
        criteria.above("efficiency on 8 cores, in %", 12.5 * scaling(rows, "prefill", 8), 80, "%")
    criteria.check()


def table(rows: Rows, counts: Sequence[int]) -> str:
    """Speed-ups, and decoding as a share of how bandwidth scales."""
    header = ["threads", "prefill tokens/s", "x", "efficiency", "int8 peak x"]
    header += ["decode tokens/s", "x", "bandwidth x", "decode / bandwidth"]
    lines = [header]
    for count in counts:
        prefill, decode = scaling(rows, "prefill", count), scaling(rows, "decode", count)
        bandwidth = scaling(rows, "read", count)
        lines.append(
            [
                str(count),
                f"{rows['prefill', count].rate.median:.1f}",
                f"{prefill:.2f}",
                f"{prefill / count:.0%}",
                f"{scaling(rows, 'multiply', count):.2f}",
                f"{rows['decode', count].rate.median:.1f}",
                f"{decode:.2f}",
                f"{bandwidth:.2f}",
                f"{decode / bandwidth:.2f}",
            ]
        )
    return f"thread scaling, medians of {ROUNDS} interleaved rounds\n{aligned(lines)}"
