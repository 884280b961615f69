"""Markdown tables of the six benchmarks: each a function of the results, "" where they lack."""

from __future__ import annotations

from ryzanstein_llm.text_table import number, plural

from .markdown import markdown, times
from .results import Found, Results

__all__ = ["SIX_TABLES"]


def threads(results: Results) -> str:
    """Scaling."""
    lines = []
    for count, row in results.scaling_rows().items():
        lines.append(
            [
                str(count),
                number(row["prefill_tokens_per_second"]),
                f"{times(row['prefill_speedup'])} ({row['prefill_efficiency']:.0%} a core)",
                times(row["multiply_speedup"]),
                number(row["decode_tokens_per_second"]),
                times(row["decode_speedup"]),
                times(row["bandwidth_speedup"]),
            ]
        )
    header = ["threads", "prompt, tokens/s", "as fast as on one", "int8 peak"]
    return markdown([*header, "decoding, tokens/s", "as fast as on one", "bandwidth"], lines)


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
                    f"{1e3 * row['baseline_seconds']:,.0f} ms "
                    f"(unpacking, {row['baseline_unpacking_seconds']:.2f} s, not counted)",
                    f"{times(row['times_baseline'], digits=0)} as fast",
                ]
            )
    return markdown(("", "this library", "baseline", "this library is"), lines)


def profile_run(results: Results) -> str:
    """The run that the profile is of, beside that of `bench`."""
    phase, six = results.profile("decode"), results.six
    if phase is None or six is None:
        return ""
    count = phase["threads"]
    read = results.row("read", count)
    if read is None:
        return ""
    seconds = phase["seconds"] / phase["tokens"]
    return (
        f"The profile is of a run of the six benchmarks on {six.date[:10]} (commit "
        f"{(six.commit or 'unknown')[:7]}): a token took {1e3 * seconds:.2f} ms "
        f"({number(1 / seconds)} tokens/s) on {plural(count, 'thread')}, and just before, memory "
        f"gave {phase['limit_bytes_per_second'] / 1e9:.1f} GB/s. The table under Decoding is of "
        f"another run, in which memory gave {read['rate']['median'] / 1e9:.1f} GB/s."
    )


def prefetch(results: Results) -> str:
    """On and off."""
    lines = []
    for kind, title in (("decode", "decoding"), ("prefill", "prompt")):
        row = results.of_six(f"test_prefetch_on_against_off[{kind}]")
        if row is not None:
            rates = (row["tokens_per_second"], row["tokens_per_second_without"])
            lines.append([title, *map(number, rates), f"{times(row['prefetch_gain'])} as fast"])
    return markdown(
        ("tokens/s", "prefetch on", "off", "with prefetch, median of the rounds"), lines
    )


def simulated(results: Results) -> str:
    """A sentence: accesses of the kernels in caches that valgrind simulates."""
    found = []
    for tier in ("avx2", "scalar"):
        row = results.of_demo(f"test_simulated_accesses[{tier}]")
        if row is not None and "reads" in row:
            found.append(
                f"{tier} {row['reads'] / 1e6:.0f} million reads, of which the first level has "
                f"{row['d1_hit_rate']:.1%} and the last {row['ll_hit_rate']:.1%} of the rest"
            )
    return (
        f"The demo model decodes in caches that valgrind simulates: {'; '.join(found)}."
        if found
        else ""
    )


def caches(results: Results) -> str:
    """What a kind of cache costs and saves."""
    row = results.of_demo("test_perplexity_by_kind_of_cache")
    if row is None:
        return ""
    exact = row["perplexities"]["float32"]
    lines = [
        [kind, f"{row['kv_bytes_per_token'][kind]:,}", f"{value:.4f} ({value / exact - 1:+.3%})"]
        for kind, value in row["perplexities"].items()
    ]
    header = ("cache", "bytes a token", f"demo model, perplexity of {row['text_tokens']:,} tokens")
    return markdown(header, lines)


def criteria(results: Results) -> str:
    """Passed, failed, or not to be shown: one line for those of a benchmark that came out alike."""
    alike: dict[tuple[str, str, str], list[Found]] = {}
    for found in results.criteria():
        alike.setdefault((found["benchmark"], found["status"], found["why"]), []).append(found)
    lines = []
    for (benchmark, status, why), group in alike.items():
        said = [_criterion(found) for found in group if found["bound"] or status != "pass"]
        if checks := len(group) - len(said):
            said.append(f"{plural(checks, 'check')} that outputs are equal or finite")
        outcome = {"pass": "passed", "fail": "**failed**"}.get(status, status)
        lines.append([benchmark, "; ".join(said), f"{outcome}: {why}" if why else outcome])
    return markdown(("benchmark", "criteria", "outcome"), lines)


def _criterion(found: Found) -> str:
    """As "tokens/s > 2 tokens/s: 47.8"."""
    text = f"{found['what']} {found['bound']}".rstrip()
    return text if found["value"] is None else f"{text}: {number(found['value'])}"


SIX_TABLES = {
    table.__name__: table
    for table in (threads, baseline, profile_run, prefetch, simulated, caches, criteria)
}
