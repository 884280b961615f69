"""Markdown tables for PERFORMANCE.md: each a function of the results, "" where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ryzanstein_llm.text_table import number

from .markdown import kind_title, markdown, times
from .results import Found, Results
from .six_tables import SIX_TABLES

__all__ = ["TABLES"]


def _by_threads(
    results: Results,
    kind: str,
    name: Callable[[Found], str],
    cells: Callable[[Found], Sequence[str]],
    header: Sequence[str],
) -> str:
    """A line for each size, columns for each number of threads."""
    threads = results.threads
    titles = [kind_title(count) for count in threads]
    head = [header[0]]
    for title in titles:
        head += [title, *header[1:]]
    lines = []
    for size in sorted({row["size"] for row in results.rows(kind)}):
        found = [results.row(kind, count, size) for count in threads]
        line = [name(next(row for row in found if row))]
        for row in found:
            line += ["" for _ in header] if row is None else cells(row)
        lines.append(line)
    return markdown(head, lines)


def _rate(row: Found) -> str:
    return f"{number(row['rate']['median'])} tokens/s"


def _spread(row: Found) -> str:
    low, high = row["rate"]["low"], row["rate"]["high"]
    return f"{_rate(row)} ({number(low)}…{number(high)})"


def _share(row: Found) -> str:
    return f"{row['limit_share']['median']:.2f}"


def machine(results: Results) -> str:
    """What ran, and on what."""
    if results.bench is None and results.six is None:
        return ""
    lines = []
    if results.bench is not None:
        card, model, options = (results.bench[name] for name in ("machine", "model", "options"))
        settings = ", ".join(
            f"{s['tier']} on {kind_title(s['threads'])}" for s in options["settings"]
        )
        weights = "random weights" if model["random_weights"] else "weights of a file"
        lines += [
            ("model", f"{model['name']}: {model['family']}, {model['parameters']:,} parameters, "
             f"{weights}, {model['kv_dtype']} cache"),
            ("settings", f"{settings}; median of {options['repetitions']} interleaved rounds"),
        ]  # fmt: skip
    else:
        assert results.six is not None
        card = results.six.machine
    cores = f"{card['cores_allowed']} CPUs allowed, {card['physical_cores']} cores"
    lines += [
        ("CPU", f"{card['cpu']}, {cores}"),
        ("features", ", ".join(card["features"])),
        (
            "system",
            f"{card['os']}, Python {card['python']}, NumPy {card['numpy']}, {card['compiler']}",
        ),
        ("version", f"{card['version']}, commit {(card['commit'] or 'unknown')[:12]}"),
    ]
    return markdown(("", ""), lines)


def limits(results: Results) -> str:
    """Of the machine, by threads."""
    lines = []
    for kind, title, unit in (
        ("read", "streaming read", "GB/s"),
        ("multiply", "int8 multiply-adds", "GMAC/s"),
    ):
        rows = [results.row(kind, count) for count in results.threads]
        if rows and all(rows):
            values = [f"{number(row['rate']['median'] / 1e9)} {unit}" for row in rows if row]
            lines.append([title, *values])
    return markdown(["limit", *map(kind_title, results.threads)], lines)


def decode(results: Results) -> str:
    """Greedy, one sequence."""
    return _by_threads(
        results,
        "decode",
        lambda row: f"at {row['size']:,} ({row['traffic']['total'] / 1e6:.0f} MB a token)",
        lambda row: (_spread(row), _share(row)),
        ("decode, greedy", "of the bandwidth"),
    )


def dense(results: Results) -> str:
    """Nothing skipped."""
    return _by_threads(
        results,
        "dense",
        lambda row: f"at {row['size']:,}, nothing skipped",
        lambda row: (_spread(row), _share(row), times(row["relative"]["median"])),
        ("decode, greedy", "of the bandwidth", "skipping brings"),
    )


def prefill(results: Results) -> str:
    """Prompts, and their projections alone."""
    prompts = _by_threads(
        results,
        "prefill",
        lambda row: f"{row['size']} tokens",
        lambda row: (_spread(row), _share(row)),
        ("prompt, last logits", "of the int8 peak"),
    )
    alone = _by_threads(
        results,
        "gemm",
        lambda row: f"{row['size']} tokens",
        lambda row: (_spread(row), _share(row)),
        ("projections alone", "of the int8 peak"),
    )
    return "\n\n".join(filter(None, (prompts, alone)))


def batch(results: Results) -> str:
    """Several sequences in one pass."""
    return _by_threads(
        results,
        "batch",
        lambda row: str(row["size"]),
        lambda row: (
            _rate(row),
            "" if row["relative"] is None else times(row["relative"]["median"]),
            _share(row),
        ),
        ("sequences in one pass", "against one", "of the int8 peak"),
    )


def peers(results: Results) -> str:
    """Other engines."""
    if results.peers is None:
        return ""
    lines = []
    for row in results.peers["rows"]:
        ahead = "" if row["ahead"] is None else times(row["ahead"]["median"])
        if row["ahead"] is not None:
            ahead += f" ({row['ahead']['low']:.2f}…{row['ahead']['high']:.2f})"
        cosine = "" if row["cosine"] is None else f"{row['cosine']:.4f}"
        lines.append([row["case"], str(row["threads"]), row["engine"], _spread(row), ahead, cosine])
    versions = [
        f"{name}: {', '.join(f'{k} {str(v)[:12]}' for k, v in about['versions'].items())}; "
        f"{about['build'].replace(' = 1 |', ',').strip(' ,')}"
        for name, about in results.peers["engines"].items()
    ]
    header = ("case", "threads", "engine", "", "this library is", "cosine of logits")
    return markdown(header, lines) + "\n\n" + "\n".join(f"- {line}" for line in versions)


def summary(results: Results) -> str:
    """The few figures that people ask for first."""
    if results.bench is None:
        return ""
    counts = results.threads
    lines = []
    for title, kind, size in (
        ("decoding, tokens/s", "decode", 16),
        ("prompt of 512 tokens, tokens/s", "prefill", 512),
        ("sixteen sequences in one pass, tokens/s", "batch", 16),
    ):
        rows = [results.row(kind, count, size) for count in counts]
        if all(row is not None for row in rows):
            lines.append([title, *(f"{row['rate']['median']:,.0f}" for row in rows if row)])
            lines += _ahead(results, kind, size, counts)
    for title, key in (
        ("opens, the first time", "load_seconds"),
        ("opens from then on", "mapped_load_seconds"),
    ):
        found = results.bench.get(key)
        if found is not None:
            lines.append([title, *[""] * (len(counts) - 1), f"{found['median']:.2f} s"])
    return markdown(("", *(kind_title(count) for count in counts)), lines)


def _ahead(results: Results, kind: str, size: int, counts: list[int]) -> list[list[str]]:
    """How many times as fast as each other engine, where all thread counts were measured."""
    rows = [] if results.peers is None else results.peers["rows"]
    found = []
    for engine in dict.fromkeys(row["engine"] for row in rows if row["ahead"] is not None):
        ahead = {
            row["threads"]: times(row["ahead"]["median"])
            for row in rows
            if row["engine"] == engine and row["kind"] == kind and row["case"].endswith(f" {size}")
        }
        if set(counts) <= ahead.keys():
            found.append([f"… against {engine}", *(ahead[count] for count in counts)])
    return found


def start(results: Results) -> str:
    """Load time and memory."""
    if results.bench is None:
        return ""
    lines = []
    for title, key, mapped in (
        ("packs its weights", "load_seconds", False),
        ("maps packed weights", "mapped_load_seconds", True),
    ):
        found = results.bench.get(key)
        starts = [s for s in results.bench["starts"] if s.get("mapped", False) is mapped]
        if found is None or not starts:
            continue
        memory = starts[-1]["memory"]
        known = [
            "" if memory is None else f"{memory[k] / 1e6:.0f} MB" for k in ("private", "mapped")
        ]
        peak = starts[-1]["peak_bytes"]
        lines.append(
            [
                title,
                f"{found['median']:.2f} s",
                "" if peak is None else f"{peak / 1e6:.0f} MB",
                *known,
            ]
        )
    return markdown(("a fresh process", "opens in", "peak memory", "private", "mapped"), lines)


def others(results: Results) -> str:
    """Other tiers, other weights."""
    lines = []
    for name, report in results.others.items():
        for row in report["rows"]:
            if row["kind"] in ("decode", "prefill", "dense", "batch"):
                lines.append(
                    [name, row["case"], row["tier"], str(row["threads"]), _spread(row), _share(row)]
                )
    return markdown(("run", "case", "tier", "threads", "", "of its limit"), lines)


TABLES: dict[str, Callable[[Results], str]] = SIX_TABLES | {
    table.__name__: table
    for table in (machine, limits, summary, decode, dense, prefill, batch, peers, start, others)
}
