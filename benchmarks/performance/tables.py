"""Markdown tables for PERFORMANCE.md: each a function of the results, "" where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.history.__main__ import COLUMNS, figure_of
from ryzanstein_llm.profiling.operations import TITLES
from ryzanstein_llm.text_table import number

from .results import Found, Results

__all__ = ["TABLES"]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; "" without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines])


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


def times(value: float, digits: int = 2) -> str:
    """As "2.00 x", with the right sign."""
    return f"{value:.{digits}f} \N{MULTIPLICATION SIGN}"


def kind_title(threads: int) -> str:
    """Of a column."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


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


TABLES: dict[str, Callable[[Results], str]] = {
    table.__name__: table
    for table in (
        machine, limits, decode, dense, prefill, batch, operations, threads, peers, baseline,
        prefetch, start, others, criteria, history,
    )
}  # fmt: skip
