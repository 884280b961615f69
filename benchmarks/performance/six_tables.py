"""Markdown tables of the six benchmarks: each a function of the results, "" where they lack."""

from __future__ import annotations

from benchmarks.history.__main__ import COLUMNS, figure_of
from ryzanstein_llm.profiling.operations import TITLES
from ryzanstein_llm.text_table import number

from .markdown import markdown, times
from .results import Results

__all__ = ["SIX_TABLES"]


def operations(results: Results) -> str:
    """Time of each, decoding and in a prompt."""
    decode, prompt = results.profile("decode"), results.profile("prefill")
    if decode is None or prompt is None:
        return ""
    lines = []
    for name, title in TITLES.items():
        line = [title]
        for phase in (decode, prompt):
            found = next((o for o in phase["operations"] if o["name"] == name), None)
            if found is None:
                line += ["", "", "", ""]
                continue
            seconds = found["seconds"]
            bandwidth = found["bytes"] / seconds / 1e9 if found["bytes"] else 0
            products = found["multiply_adds"] / seconds / 1e9 if found["multiply_adds"] else 0
            line += [
                f"{1e6 * seconds / phase['tokens']:.1f} µs",
                f"{seconds / phase['seconds']:.1%}",
                number(bandwidth) if bandwidth else "",
                number(products) if products else "",
            ]
        if any(line[1:]):
            lines.append(line)
    header = ["operation", "decode, a token", "share", "GB/s", "GMAC/s"]
    header += [f"prompt of {prompt['tokens']}, a token", "share", "GB/s", "GMAC/s"]
    return markdown(header, lines)


def threads(results: Results) -> str:
    """Scaling."""
    lines = []
    for count, row in results.scaling_rows().items():
        lines.append(
            [
                str(count),
                f"{number(row['prefill_tokens_per_second'])} tokens/s",
                times(row["prefill_speedup"]),
                f"{row['prefill_efficiency']:.0%}",
                times(row["multiply_speedup"]),
                f"{number(row['decode_tokens_per_second'])} tokens/s",
                times(row["decode_speedup"]),
                times(row["bandwidth_speedup"]),
                f"{row['decode_speedup'] / row['bandwidth_speedup']:.0%}",
            ]
        )
    header = ["threads", "prompt", "", "efficiency", "int8 peak", "decode", ""]
    return markdown([*header, "bandwidth", "decode of bandwidth's"], lines)


def baseline(results: Results) -> str:
    """The same checkpoint, naively."""
    lines = []
    for title, name, ours in (
        ("a single token", "test_single_token_latency", "seconds"),
        ("a token at position 50", "test_step_at_position_fifty", "step_seconds"),
    ):
        row = results.of_six(name)
        if row is not None:
            lines.append(
                [
                    title,
                    f"{1e3 * row[ours]:.1f} ms",
                    f"{row['baseline_seconds']:.2f} s",
                    times(row["times_baseline"], digits=0),
                    f"{row['baseline_unpacking_seconds']:.2f} s",
                ]
            )
    header = ("", "this library", "baseline", "times", "unpacking, not counted")
    return markdown(header, lines)


def prefetch(results: Results) -> str:
    """On and off."""
    lines = []
    for kind in ("decode", "prefill"):
        row = results.of_six(f"test_prefetch_on_against_off[{kind}]")
        if row is not None:
            rates = (row["tokens_per_second"], row["tokens_per_second_without"])
            lines.append(
                [
                    kind,
                    *(f"{number(rate)} tokens/s" for rate in rates),
                    times(row["prefetch_gain"]),
                ]
            )
    return markdown(("", "prefetch on", "off", ""), lines)


def simulated(results: Results) -> str:
    """Accesses of the kernels in caches that valgrind simulates."""
    lines = []
    for tier in ("avx2", "scalar"):
        row = results.of_demo(f"test_simulated_accesses[{tier}]")
        if row is not None and "reads" in row:
            lines.append(
                [
                    tier,
                    f"{row['instructions'] / 1e6:.0f} M",
                    f"{row['reads'] / 1e6:.0f} M",
                    f"{row['d1_hit_rate']:.1%}",
                    f"{row['ll_hit_rate']:.1%}",
                ]
            )
    header = ("tier", "instructions", "reads", "in the first cache", "of the rest in the last")
    return markdown(header, lines)


def caches(results: Results) -> str:
    """What a kind of cache costs and saves."""
    row = results.of_demo("test_perplexity_by_kind_of_cache")
    if row is None:
        return ""
    exact = row["perplexities"]["float32"]
    lines = [
        [kind, f"{row['kv_bytes_per_token'][kind]:,}", f"{value:.4f}", f"{value / exact - 1:+.3%}"]
        for kind, value in row["perplexities"].items()
    ]
    header = ("cache", "bytes a token", f"perplexity of {row['text_tokens']:,} tokens", "change")
    return markdown(header, lines)


def criteria(results: Results) -> str:
    """Passed, failed, or not to be shown."""
    lines = []
    for found in results.criteria():
        value = "" if found["value"] is None else number(found["value"])
        status = {"pass": "passed", "fail": "**failed**"}.get(found["status"], found["status"])
        lines.append(
            [found["benchmark"], found["what"], value, found["bound"], status, found["why"]]
        )
    return markdown(("benchmark", "", "measured", "criterion", "", ""), lines)


def history(results: Results) -> str:
    """Runs that are kept."""
    lines = []
    for entry in results.history:
        line = [entry.date[:10], (entry.commit or "unknown")[:7], entry.model]
        for _, name, figure, factor, digits in COLUMNS:
            value = figure_of(entry, name, figure)
            line.append("" if value is None else f"{factor * value:.{digits}f}")
        lines.append(line)
    return markdown(("date", "commit", "model", *(column[0] for column in COLUMNS)), lines)


SIX_TABLES = {
    table.__name__: table
    for table in (operations, threads, baseline, prefetch, simulated, caches, criteria, history)
}
