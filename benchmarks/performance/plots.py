"""Plots for PERFORMANCE.md, drawn from the results alone. Needs the extra `plots`.

On a white ground of their own, so that they can be read in a dark viewer as well; the same results
give the same file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.history.check import speeds
from ryzanstein_llm.profiling.operations import TITLES

from .results import Results

__all__ = ["PLOTS", "draw"]

# Okabe and Ito's colours: told apart by every kind of eye.
BLUE, ORANGE, GREEN, PURPLE, RED, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#666666",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)

STYLE = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "text.color": "#222222", "axes.labelcolor": "#222222", "axes.edgecolor": "#888888",
    "xtick.color": "#222222", "ytick.color": "#222222", "axes.grid": True,
    "grid.color": "#dddddd", "axes.axisbelow": True, "font.size": 11,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "svg.hashsalt": "ryzanstein_llm", "svg.fonttype": "path",
}  # fmt: skip

MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(name: str, results: Results, folder: Path) -> Path | None:
    """Writes `<name>.svg`; None, and no file, where the results have nothing to draw."""
    path = folder / f"{name}.svg"
    with mpl.rc_context(STYLE):
        figure = PLOTS[name](results)
        if figure is None:
            path.unlink(missing_ok=True)
            return None
        folder.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.15)
        plt.close(figure)
    return path


def context(results: Results) -> Any:
    """Tokens a second over the length of the context, with what bandwidth allows."""
    rows = results.rows("decode")
    if len({row["size"] for row in rows}) < 2:
        return None
    figure, axes = plt.subplots(figsize=(7, 4))
    for colour, count in zip(COLOURS, results.threads, strict=False):
        mine = sorted((row for row in rows if row["threads"] == count), key=lambda r: r["size"])
        sizes = [row["size"] for row in mine]
        rates = [row["rate"] for row in mine]
        middle = [rate["median"] for rate in rates]
        below = [rate["median"] - rate["low"] for rate in rates]
        above = [rate["high"] - rate["median"] for rate in rates]
        axes.errorbar(
            sizes, middle, yerr=(below, above), marker="o", color=colour, capsize=3,
            label=f"{_threads(count)}",
        )  # fmt: skip
        axes.plot(
            sizes, [row["limit"]["median"] for row in mine], "--", color=colour, alpha=0.7,
            label=f"limit by bandwidth, {_threads(count)}",
        )  # fmt: skip
    axes.set(xlabel="tokens in the cache", ylabel="tokens/s, one sequence")
    axes.set_ylim(bottom=0)
    axes.set_title("Decoding over the length of the context")
    axes.legend()
    return figure


def threads(results: Results) -> Any:
    """Speed-up over threads, with the ideal line."""
    rows = results.scaling_rows()
    if len(rows) < 2:
        return None
    counts = list(rows)
    figure, axes = plt.subplots(figsize=(6, 4.5))
    axes.plot(counts, counts, "--", color=GREY, label="ideal")
    for key, label, colour, marker in (
        ("prefill_speedup", "prompt", BLUE, "o"),
        ("multiply_speedup", "int8 peak", SKY, "s"),
        ("decode_speedup", "decode", ORANGE, "^"),
        ("bandwidth_speedup", "bandwidth", RED, "D"),
    ):
        values = [row[key] for row in rows.values()]
        axes.plot(counts, values, marker=marker, color=colour, label=label)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(xlabel="threads", ylabel="times as fast as one thread")
    axes.set_ylim(bottom=0)
    axes.set_title("Scaling with threads")
    axes.legend()
    return figure


def operations(results: Results) -> Any:
    """Time of each operation, of a token decoded and of a token of a prompt."""
    phases = [(kind, results.profile(kind)) for kind in ("decode", "prefill")]
    shown = [(kind, phase) for kind, phase in phases if phase is not None]
    if not shown:
        return None
    figure, panels = plt.subplots(
        len(shown), 1, figsize=(8, 4.2 * len(shown)), squeeze=False, layout="constrained"
    )
    for axes, (kind, phase) in zip(panels[:, 0], shown, strict=True):
        found = [o for o in phase["operations"] if o["seconds"] > 0.001 * phase["seconds"]]
        found.sort(key=lambda o: o["seconds"])
        names = [TITLES[o["name"]] for o in found]
        scale = 1e6 / phase["tokens"]
        waited = [scale * o["wait_seconds"] for o in found]
        worked = [scale * (o["seconds"] - o["wait_seconds"]) for o in found]
        colours = [BLUE if o["calls"] else ORANGE for o in found]
        axes.barh(names, worked, color=colours)
        axes.barh(names, waited, left=worked, color=GREY, alpha=0.5)
        for place, o in enumerate(found):
            axes.text(
                scale * o["seconds"], place, f"  {o['seconds'] / phase['seconds']:.1%}", va="center"
            )
        what = (
            "a decoded token" if kind == "decode" else f"a token of a prompt of {phase['tokens']}"
        )
        axes.set_title(f"Time by operation: {what}, {_threads(phase['threads'])}")
        axes.set_xlabel("µs a token (blue: kernels, grey: waiting for threads, orange: Python)")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
    return figure


def roofline(results: Results) -> Any:
    """int8 multiply-adds a second over multiply-adds a byte, under what the machine allows."""
    if results.bench is None:
        return None
    count = results.threads[-1]
    read, multiply = results.row("read", count), results.row("multiply", count)
    decode = results.row("decode", count)
    if read is None or multiply is None or decode is None:
        return None
    bandwidth, peak = (row["rate"]["median"] / 1e9 for row in (read, multiply))
    products = results.bench["model"]["multiply_adds"] / 1e9  # G a token
    figure, axes = plt.subplots(figsize=(8, 5.5))
    edges = [0.5, peak / bandwidth, 2000]
    roof = [min(peak, bandwidth * edge) for edge in edges]
    axes.plot(edges, roof, color="#222222", label="memory and int8 peak")
    weights = decode["traffic"]["ternary"] + decode["traffic"]["head"]

    def point(tokens: float, rate: float, weight_bytes: float, **style: Any) -> None:
        axes.plot(tokens * products * 1e9 / weight_bytes, rate * products, **style)

    ours = {"color": BLUE, "linestyle": "none", "markersize": 8}
    for kind, marker, label in (
        ("decode", "o", "decode"), ("batch", "^", "several sequences"), ("prefill", "s", "prompt"),
    ):  # fmt: skip
        for number, row in enumerate(r for r in results.rows(kind) if r["threads"] == count):
            tokens = 1 if kind == "decode" else row["size"]
            amount = row["traffic"]["total"] if kind == "decode" else weights
            name = f"this library: {label}" if not number else None
            point(tokens, row["rate"]["median"], amount, marker=marker, label=name, **ours)
    _peers_on_roofline(results, count, point)
    for kind, marker in (("decode", "."), ("prefill", "x")):
        phase = results.profile(kind)
        if phase is None or phase["threads"] != count:
            continue
        # of another run: under this roof only if that run had about the same
        if not 0.85 < phase["limit_multiply_adds_per_second"] / 1e9 / peak < 1.15:
            continue
        gemms = [o for o in phase["operations"] if o["kind"] == "int8" and "head" not in o["name"]]
        axes.plot(
            [o["multiply_adds"] / o["bytes"] for o in gemms],
            [o["multiply_adds"] / o["seconds"] / 1e9 for o in gemms],
            marker=marker, color=SKY, linestyle="none", markersize=8,
            label=f"products alone, {'decode' if kind == 'decode' else 'prompt'}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(
        xlabel="ternary multiply-adds a byte read from memory", ylabel="ternary multiply-adds, G/s"
    )
    axes.set_title(f"Roofline, {_threads(count)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _peers_on_roofline(results: Results, count: int, point: Callable[..., None]) -> None:
    """Other engines, by the size of their tensors as they state it."""
    if results.peers is None:
        return
    names = [name for name in results.peers["engines"] if name != "ryzanstein_llm"]
    for colour, name in zip((ORANGE, GREEN, PURPLE, RED), names, strict=False):
        said = re.search(r"([\d.]+) MB", results.peers["engines"][name].get("model", ""))
        if said is None:
            continue
        label = name
        for row in results.peers["rows"]:
            if row["engine"] != name or row["threads"] != count:
                continue
            tokens = 1 if row["kind"] == "decode" else int(re.findall(r"\d+", row["case"])[-1])
            marker = "o" if row["kind"] == "decode" else "s"
            point(
                tokens, row["rate"]["median"], 1e6 * float(said[1]), marker=marker, color=colour,
                linestyle="none", markersize=8, label=label,
            )  # fmt: skip
            label = None


def engines(results: Results) -> Any:
    """Tokens a second of this library and others, decoding and over a prompt."""
    if results.peers is None:
        return None
    names = list(results.peers["engines"])
    cases = {
        kind: [row["case"] for row in results.peers["rows"] if row["kind"] == kind]
        for kind in ("decode", "prefill")
    }
    if not all(cases.values()):
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    height = 0.8 / len(names)
    for axes, (kind, title) in zip(
        panels, (("decode", "Decoding"), ("prefill", "Prompt")), strict=True
    ):
        case = cases[kind][-1]
        counts = sorted({r["threads"] for r in results.peers["rows"] if r["case"] == case})
        for row in results.peers["rows"]:
            if row["case"] != case:
                continue
            number = names.index(row["engine"])
            place = counts.index(row["threads"]) + height * (number - (len(names) - 1) / 2)
            rate = row["rate"]["median"]
            colour = COLOURS[0] if not number else (GREY, "#aaaaaa", "#cccccc")[number % 3]
            axes.barh(place, rate, height=0.9 * height, color=colour)
            behind = (
                "" if row["ahead"] is None else f" ({row['ahead']['median']:.1f} times as long)"
            )
            axes.text(
                rate, place, f"  {rate:,.0f}  {row['engine']}{behind}", va="center", fontsize=9
            )
        axes.set_yticks(range(len(counts)), [_threads(count) for count in counts])
        axes.invert_yaxis()
        axes.set_xlim(right=1.75 * axes.get_xlim()[1])
        axes.set_title(f"{title} ({case}), tokens/s")
        axes.grid(axis="y", visible=False)
    return figure


def baseline(results: Results) -> Any:
    """Milliseconds a token, here and naively."""
    bars = []
    for title, name, key in (
        ("a single token", "test_single_token_latency", "seconds"),
        ("a token at position 50", "test_step_at_position_fifty", "step_seconds"),
    ):
        row = results.of_six(name)
        if row is not None:
            bars.append((title, 1e3 * row[key], 1e3 * row["baseline_seconds"]))
    if not bars:
        return None
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.9 * len(bars)))
    for place, (_, ours, theirs) in enumerate(bars):
        axes.barh(place + 0.2, theirs, height=0.36, color=GREY)
        axes.barh(place - 0.2, ours, height=0.36, color=BLUE)
        axes.text(theirs, place + 0.2, f"  baseline {theirs:,.0f} ms", va="center")
        text = f"  {ours:,.1f} ms, {theirs / ours:,.0f} times as fast"
        axes.text(ours, place - 0.2, text, va="center")
    axes.set_yticks(range(len(bars)), [title for title, *_ in bars])
    axes.set_xscale("log")
    axes.set_xlim(min(ours for _, ours, _ in bars) / 3, 20 * max(theirs for *_, theirs in bars))
    axes.set_xlabel("ms, logarithmic")
    axes.grid(axis="y", visible=False)
    axes.set_title("Against the baseline")
    return figure


def history(results: Results) -> Any:
    """Speed in units of the limits that each run measured, run after run; the first is 1."""
    six = results.six
    entries = [entry for entry in results.history if six is not None and entry.comparable(six)]
    if len(entries) < 2:
        return None
    figure, axes = plt.subplots(figsize=(7, 4))
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
    axes.set_title("History")
    axes.legend(loc="lower right")
    return figure


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


PLOTS: dict[str, Callable[[Results], Any]] = {
    plot.__name__: plot
    for plot in (context, threads, operations, roofline, engines, baseline, history)
}
