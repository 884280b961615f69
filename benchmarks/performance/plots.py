"""The pictures of PERFORMANCE.md, drawn from the results alone. Needs the extra `plots`.

The same results give the same file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.history.check import speeds
from ryzanstein_llm.text_table import number, plural

from .markdown import times
from .operations import OTHERS, added_up
from .pictures import runs_alike
from .results import Found, Results
from .roofline import roofline
from .style import (
    BLUE,
    COLOURS,
    GREY,
    MARKERS,
    ORANGE,
    RED,
    SKY,
    STYLE,
    WIDTH,
    colours_below,
    legend_below,
    only_bars,
    plt,
    thousands,
)

__all__ = ["PLOTS", "draw"]

MOST_RUNS = 8  # of the history: so many dates have room beside each other


def draw(name: str, results: Results, folder: Path) -> Path:
    """Writes `<name>.svg`; the results must have enough for it (`PICTURES`)."""
    path = folder / f"{name}.svg"
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure = PLOTS[name](results)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return path


def engines(results: Results) -> Any:
    """Tokens a second of this library and others, decoding and over the longest prompt."""
    assert results.peers is not None
    rows = results.peers["rows"]
    ours, *_ = results.peers["engines"]
    shown = []
    for kind, title in (("decode", "Decoding after {} tokens"), ("prefill", "Prompt of {} tokens")):
        case = [row["case"] for row in rows if row["kind"] == kind][-1]
        size = case.rpartition(" ")[2]
        shown.append((title.format(size), [row for row in rows if row["case"] == case]))
    lines = sum(len(found) + len({row["threads"] for row in found}) for _, found in shown)
    figure, panels = plt.subplots(2, 1, figsize=(WIDTH, 1.2 + 0.27 * lines))
    for axes, (title, found) in zip(panels, shown, strict=True):
        axes.set_title(f"{title}, tokens a second")
        _bars_of_engines(axes, found, ours)
    return figure


def _bars_of_engines(axes: Any, rows: list[Found], ours: str) -> None:
    """A bar for each engine, under the number of threads; who is how many times as fast as whom
    stands at the bar of the other."""
    labels, places, names = [], [], []
    place = 0.0
    for count in sorted({row["threads"] for row in rows}):
        axes.annotate(
            plural(count, "thread"), (0, place), (4, 0), textcoords="offset points", va="center",
            fontstyle="italic",
        )  # fmt: skip
        for row in (row for row in rows if row["threads"] == count):
            place += 1
            rate = row["rate"]["median"]
            mine = row["ahead"] is None
            axes.barh(place, rate, height=0.8, color=BLUE if mine else GREY)
            text = f" {rate:,.0f}"
            if not mine:
                text += f"   ({ours} is {times(row['ahead']['median'], 1)} as fast)"
            weight = "bold" if mine else "normal"
            labels.append(axes.text(rate, place, text, va="center", weight=weight))
            places.append(place)
            names.append(row["engine"])
        place += 1.2
    axes.set_yticks(places, names)
    axes.set_ylim(place - 0.6, -0.5)
    only_bars(axes, labels)


def context(results: Results) -> Any:
    """Tokens a second over the length of the context, with what bandwidth allows."""
    rows = results.rows("decode")
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    measured, limits = [], []
    for place, count in enumerate(results.threads):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        mine = sorted((row for row in rows if row["threads"] == count), key=lambda r: r["size"])
        sizes = [row["size"] for row in mine]
        rates = [row["rate"] for row in mine]
        middle = [rate["median"] for rate in rates]
        below = [rate["median"] - rate["low"] for rate in rates]
        above = [rate["high"] - rate["median"] for rate in rates]
        measured.append(
            axes.errorbar(
                sizes, middle, yerr=(below, above), marker=marker, color=colour, capsize=4,
                label=f"measured, {plural(count, 'thread')}",
            )
        )  # fmt: skip
        axes.fill_between(
            sizes, [row["limit"]["low"] for row in mine], [row["limit"]["high"] for row in mine],
            color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
        limits += axes.plot(
            sizes, [row["limit"]["median"] for row in mine], "--", color=colour, alpha=0.7,
            label=f"limit by bandwidth, {plural(count, 'thread')}",
        )  # fmt: skip
    axes.set(xlabel="tokens in the cache", ylabel="tokens a second")
    axes.set_ylim(bottom=0)
    thousands(axes.xaxis)
    axes.set_title("Decoding slows down as the context grows")
    legend_below(figure, 2, handles=[*measured, *limits])
    return figure


def threads(results: Results) -> Any:
    """Speed-up over threads, with the ideal line."""
    rows = results.scaling_rows()
    counts = list(rows)
    figure, axes = plt.subplots(figsize=(WIDTH, 5))
    axes.plot(counts, counts, "--", color=GREY, label="ideal")
    for key, label, colour, marker in (
        ("prefill_speedup", "prompt", BLUE, "o"),
        ("multiply_speedup", "int8 peak", SKY, "s"),
        ("decode_speedup", "decoding", ORANGE, "^"),
        ("bandwidth_speedup", "bandwidth", RED, "D"),
    ):
        values = [row[key] for row in rows.values()]
        axes.plot(counts, values, marker=marker, color=colour, label=label)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(xlabel="threads", ylabel="times as fast as one thread")
    axes.set_ylim(bottom=0)
    axes.set_title("Scaling with threads")
    legend_below(figure, 5)
    return figure


def operations(results: Results) -> Any:
    """Time of each operation, of a token decoded and of a token of a prompt."""
    phases = [(kind, results.profile(kind)) for kind in ("decode", "prefill")]
    shown = [(kind, phase, added_up(phase)) for kind, phase in phases if phase]
    heights = [len(bars) + 2 for *_, bars in shown]
    figure, panels = plt.subplots(
        len(shown), 1, figsize=(WIDTH, 0.8 + 0.28 * sum(heights)), squeeze=False,
        height_ratios=heights,
    )  # fmt: skip
    for axes, (kind, phase, bars) in zip(panels[:, 0], shown, strict=True):
        token, rate, unit = "A decoded token", "bytes", "GB/s"
        if kind == "prefill":
            token, rate, unit = (
                f"A token of a prompt of {phase['tokens']}",
                "multiply_adds",
                "GMAC/s",
            )
        milliseconds = 1e3 / phase["tokens"]
        axes.set_title(
            f"{token}: {milliseconds * phase['seconds']:.2f} ms on "
            f"{plural(phase['threads'], 'thread')}"
        )
        labels = []
        for place, (title, sums) in enumerate(bars.items()):
            total, waited, python = (
                milliseconds * sums[f"{which}seconds"] for which in ("", "wait_", "python_")
            )
            left = 0.0
            for part, colour in ((total - waited - python, BLUE), (waited, GREY), (python, ORANGE)):
                axes.barh(place, part, left=left, height=0.75, color=colour)
                left += part
            text = f" {total:.2f} ms, {sums['seconds'] / phase['seconds']:.1%}"
            if sums[rate] and title != OTHERS:
                text += f", {number(sums[rate] / sums['seconds'] / 1e9)} {unit}"
            labels.append(axes.text(total, place, text, va="center"))
        axes.set_yticks(range(len(bars)), list(bars))
        axes.set_ylim(len(bars) - 0.4, -0.6)
        only_bars(axes, labels)
    colours_below(
        figure, {BLUE: "kernels", GREY: "waiting for the other threads", ORANGE: "Python"}
    )
    return figure


def history(results: Results) -> Any:
    """Speed in units of the limits that each run measured, run after run; the first is 1."""
    entries = runs_alike(results)[-MOST_RUNS:]
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    most = max(results.scaling_rows(), default=1)
    series = (
        ("single token, by bandwidth", "test_single_token_latency", "tokens a GB"),
        ("50 tokens, by bandwidth", "test_generation_of_fifty_tokens", "tokens a GB"),
        (
            "prompt, by the int8 peak",
            f"test_prefill_and_decode_on[{most}]",
            "prompt, share of the peak",
        ),
    )
    for colour, marker, (label, name, key) in zip(COLOURS, MARKERS, series, strict=False):
        found = [speeds(entry.results.get(name, {})).get(key) for entry in entries]
        places = [place for place, value in enumerate(found) if value is not None]
        values = [value for value in found if value is not None]
        relative = [value / values[0] for value in values]
        axes.plot(places, relative, marker=marker, color=colour, label=label)
    labels = [f"{entry.date[:10]}\n{(entry.commit or 'unknown')[:7]}" for entry in entries]
    axes.set_xticks(range(len(entries)), labels)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_ylabel("speed by the limit of its run, first run = 1")
    axes.set_title("Speed of the runs that are kept")
    legend_below(figure, 3)
    return figure


PLOTS: dict[str, Callable[[Results], Any]] = {
    plot.__name__: plot for plot in (engines, context, operations, roofline, threads, history)
}
