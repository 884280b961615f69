"""Markdown tables for PERFORMANCE.md: each a function of the results, "" where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ryzanstein_llm.bench.requests import SAMPLED
from ryzanstein_llm.text_table import number, plural

from .machine_tables import MACHINE_TABLES
from .markdown import markdown, times
from .peer_tables import PEER_TABLES
from .results import Found, Results, row_of
from .six_tables import SIX_TABLES

__all__ = ["TABLES"]


def _by_threads(
    results: Results,
    kind: str,
    name: Callable[[Found], str],
    cells: Callable[[Found], Sequence[str]],
) -> list[list[str]]:
    """A line for each size, with the cells of each number of threads."""
    lines = []
    for size in sorted({row["size"] for row in results.rows(kind)}):
        found = [results.row(kind, count, size) for count in results.threads]
        some = next(row for row in found if row)
        line = [name(some)]
        for row in found:
            line += [""] * len(cells(some)) if row is None else cells(row)
        lines.append(line)
    return lines


def _header(results: Results, first: str, *more: str) -> list[str]:
    """For `_by_threads`."""
    header = [first]
    for count in results.threads:
        header += [f"{plural(count, 'thread')}, tokens/s", *more]
    return header


def _spread(row: Found) -> str:
    rate = row["rate"]
    return f"{number(rate['median'])} ({number(rate['low'])}…{number(rate['high'])})"


def _gain(row: Found) -> str:
    """As "1.36 x (0.97…1.73)", with the right sign."""
    relative = row["relative"]
    return f"{times(relative['median'])} ({relative['low']:.2f}…{relative['high']:.2f})"


def _share(row: Found) -> str:
    return f"{row['limit_share']['median']:.2f}"


def machine(results: Results) -> str:
    """What ran, on what, and what that can do at best."""
    if results.bench is None and results.six is None:
        return ""
    lines = []
    if results.bench is not None:
        card, model, options = (results.bench[name] for name in ("machine", "model", "options"))
        settings = ", ".join(
            f"{s['tier']} on {plural(s['threads'], 'thread')}" for s in options["settings"]
        )
        lines += [
            ("model", f"{model['name']}: {model['family']}, {model['parameters']:,} parameters, "
             f"{model['kv_dtype']} cache"),
            ("settings", f"{settings}; median of {options['repetitions']} interleaved rounds"),
        ]  # fmt: skip
    else:
        assert results.six is not None
        card = results.six.machine
    for kind, title, unit in (
        ("read", "streaming read", "GB/s"),
        ("multiply", "int8 multiply-adds", "GMAC/s"),
    ):
        rates = [
            f"{number(row['rate']['median'] / 1e9)} {unit} on {plural(row['threads'], 'thread')}"
            for row in results.rows(kind)
        ]
        if rates:
            lines.append((title, ", ".join(rates)))
    lines += [
        ("CPU", f"{card['cpu']}, {plural(card['cores_allowed'], 'CPU')} allowed, "
         f"{plural(card['physical_cores'], 'core')}; {', '.join(card['features'])}"),
        ("software", f"ryzanstein_llm {card['version']} (commit "
         f"{(card['commit'] or 'unknown')[:7]}), {card['os']}, Python {card['python']}, "
         f"NumPy {card['numpy']}, {card['compiler']}"),
    ]  # fmt: skip
    return markdown(("", ""), lines)


def bandwidth(results: Results) -> str:
    """A sentence: how much the bandwidth varies, within the run of `bench` and among all runs on
    this CPU. "" if there is no other."""
    if results.bench is None:
        return ""
    count = results.threads[-1]
    own, everything = results.bandwidths(count, results.bench), results.bandwidths(count)
    if len(own) == len(everything):
        return ""
    return (
        f"The bandwidth varies: {plural(count, 'thread')} read {_range(own)} GB/s in this run, and "
        f"{_range(everything)} GB/s in all runs that are kept."
    )


def _range(rates: Sequence[float]) -> str:
    """Of bytes a second, in GB/s."""
    return f"{min(rates) / 1e9:.1f} to {max(rates) / 1e9:.1f}"


def decode(results: Results) -> str:
    """Greedy, one sequence; with nothing skipped, too, where skipping is possible."""
    lines = _by_threads(
        results,
        "decode",
        lambda row: f"{row['size']:,} ({row['traffic']['total'] / 1e6:.0f} MB a token)",
        lambda row: (_spread(row), _share(row)),
    ) + _by_threads(
        results,
        "dense",
        lambda row: f"{row['size']:,}, with `skipping=False`",
        lambda row: (
            f"{_spread(row)}; skipping brings {_gain(row)}",
            _share(row),
        ),
    )
    return markdown(_header(results, "tokens in the cache", "of the bandwidth"), lines)


def sampled(results: Results) -> str:
    """Requests that are not simply greedy, beside greedy ones."""
    lines = []
    cases: dict[str, list[Found]] = {}
    for row in results.rows("sampled"):
        cases.setdefault(row["case"], []).append(row)
    for case, rows in cases.items():
        line = [SAMPLED[case.partition(" ")[0]].title]
        for count in results.threads:
            found = next(row for row in rows if row["threads"] == count)  # of the first tier
            line += [_spread(found), times(found["relative"]["median"])]
        lines.append(line)
    return markdown(_header(results, "one sequence", "as fast as greedy"), lines)


def batches(results: Results) -> str:
    """Several sequences in one pass."""
    lines = _by_threads(
        results,
        "batch",
        lambda row: plural(row["size"], "sequence"),
        lambda row: (_spread(row), times(row["relative"]["median"]), _share(row)),
    )
    more = ("as fast as one", "of the int8 peak")
    return markdown(_header(results, "in one pass", *more), lines)


def prefill(results: Results) -> str:
    """Prompts, and their projections alone."""
    lines = _by_threads(
        results,
        "prefill",
        lambda row: f"{row['size']} tokens",
        lambda row: (_spread(row), _share(row)),
    ) + _by_threads(
        results,
        "gemm",
        lambda row: f"{row['size']} tokens, projections alone",
        lambda row: (_spread(row), _share(row)),
    )
    return markdown(_header(results, "prompt", "of the int8 peak"), lines)


def start(results: Results) -> str:
    """Load time and memory."""
    if results.bench is None:
        return ""
    lines = []
    for title, key, mapped in (
        ("packs its weights, with `packed_cache=False`", "load_seconds", False),
        ("maps packed weights, like every start but the first", "mapped_load_seconds", True),
    ):
        found = results.bench.get(key)
        starts = [s for s in results.bench["starts"] if s.get("mapped", False) is mapped]
        if found is None or not starts:
            continue
        memory, peak = starts[-1]["memory"] or {}, starts[-1]["peak_bytes"]
        sizes = (peak, memory.get("private"), memory.get("mapped"))
        known = ("" if size is None else f"{size / 1e6:.0f} MB" for size in sizes)
        lines.append([title, f"{found['median']:.2f} s", *known])
    header = ("a fresh process", "opens in", "peak memory", "its own", "mapped from files")
    return markdown(header, lines)


def others(results: Results) -> str:
    """Other tiers, weights and options beside the default, one line each."""
    if results.bench is None:
        return ""
    cases = (
        ("decode at 16", "decode", 16),
        ("decode at 4,000", "decode", 4000),
        ("`skipping=False`, at 16", "dense", 16),
        ("prompt of 512", "prefill", 512),
    )
    threads = results.threads
    lines = []
    for name, report in {"default": results.bench, **results.others}.items():
        for tier in dict.fromkeys(setting["tier"] for setting in report["options"]["settings"]):
            line = [name, tier, report["model"]["weight_format"]]
            for _, kind, size in cases:
                rows = [row_of(report, kind, count, size, tier) for count in threads]
                found = {row["threads"]: number(row["rate"]["median"]) for row in rows if row}
                if len(found) < len(threads):
                    found = {n: f"{rate} ({plural(n, 'thread')})" for n, rate in found.items()}
                line.append(", ".join(found.values()))
            lines.append(line)
    header = ["run", "tier", "weights", *(title for title, *_ in cases)]
    return markdown(header, lines)


TABLES: dict[str, Callable[[Results], str]] = {
    **{
        table.__name__: table
        for table in (machine, bandwidth, decode, sampled, batches, prefill, start, others)
    },
    **MACHINE_TABLES,
    **PEER_TABLES,
    **SIX_TABLES,
}
