"""How near to the limits: multiply-adds a second over multiply-adds a byte of weights. Needs the
extra `plots`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ryzanstein_llm.text_table import plural

from .results import Found, Results
from .style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    WIDTH,
    legend_below,
    plt,
    thousands,
)

__all__ = ["roofline"]

PEER_COLOURS = (ORANGE, GREEN, PURPLE, RED)
# The profile is of another run: under this roof only if both limits were about as high.
ROOFS_ALIKE = 0.15


def roofline(results: Results) -> Any:
    """int8 multiply-adds a second over multiply-adds a byte, under what the machine allows."""
    assert results.bench is not None
    count = results.threads[-1]
    read, multiply = results.row("read", count), results.row("multiply", count)
    decode = results.row("decode", count)
    assert read is not None
    assert multiply is not None
    assert decode is not None
    bandwidth, peak = (
        {end: rate / 1e9 for end, rate in row["rate"].items()} for row in (read, multiply)
    )
    products = results.bench["model"]["multiply_adds"] / 1e9  # G a token
    weights = decode["traffic"]["ternary"] + decode["traffic"]["head"]
    figure, axes = plt.subplots(figsize=(WIDTH, 6))
    axes.set(xscale="log", yscale="log")

    def point(tokens: float, rate: float, weight_bytes: float, **style: Any) -> None:
        axes.plot(
            tokens * products * 1e9 / weight_bytes, rate * products, linestyle="none",
            markersize=8, **style,
        )  # fmt: skip

    for kind, marker, label in (
        ("decode", "o", "decoding"),
        ("batch", "^", "several sequences"),
        ("prefill", "s", "prompt"),
    ):
        for number, row in enumerate(r for r in results.rows(kind) if r["threads"] == count):
            tokens = 1 if kind == "decode" else row["size"]
            amount = row["traffic"]["total"] if kind == "decode" else weights
            name = f"this library, {label}" if not number else None
            point(tokens, row["rate"]["median"], amount, marker=marker, color=BLUE, label=name)
    _products_alone(results, count, axes)
    _peers(results, count, point)
    _roof(axes, bandwidth, peak)
    axes.set(xlabel="multiply-adds for each byte of weights read", ylabel="GMAC/s")
    thousands(axes.xaxis)
    thousands(axes.yaxis)
    axes.set_title(f"How near to the limits of the machine, {plural(count, 'thread')}")
    legend_below(figure, 3)
    return figure


def _roof(axes: Any, bandwidth: Mapping[str, float], peak: Mapping[str, float]) -> None:
    """The limits, from where the points begin to where they end, each with its name: the medians as
    a line, the lowest and the highest of all rounds as a band around it."""
    least, most = (edge * factor for edge, factor in zip(axes.get_xlim(), (0.7, 1.4), strict=True))
    slope, top = bandwidth["median"], peak["median"]
    ridge = top / slope
    most = max(most, 4 * ridge)
    corners = [peak[end] / bandwidth[end] for end in ("low", "high")]
    places = sorted([least, *corners, most])
    low, high = (
        [min(bandwidth[end] * place, peak[end]) for place in places] for end in ("low", "high")
    )
    axes.fill_between(places, low, high, color="#222222", alpha=0.15, linewidth=0)
    axes.plot([least, ridge, most], [slope * least, top, top], color="#222222")
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no lines of the grid
    axes.text(most, 1.07 * peak["high"], f"int8 peak, {top:,.0f} GMAC/s", ha="right", bbox=ground)
    above = 1.3 * bandwidth["high"]
    axes.text(
        least, above * least, f"memory, {slope:.1f} GB/s", rotation=math.degrees(math.atan(above)),
        rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip


def _products_alone(results: Results, count: int, axes: Any) -> None:
    """Ternary products by themselves, from the profile."""
    for kind, marker, label in (("decode", ".", "decoding"), ("prefill", "x", "prompt")):
        phase = results.profile(kind)
        if phase is None or phase["threads"] != count or not _alike(results, count, phase):
            continue
        gemms = [o for o in phase["operations"] if o["kind"] == "int8" and "head" not in o["name"]]
        axes.plot(
            [o["multiply_adds"] / o["bytes"] for o in gemms],
            [o["multiply_adds"] / o["seconds"] / 1e9 for o in gemms],
            marker=marker, color=SKY, linestyle="none", markersize=8,
            label=f"products alone, {label}",
        )  # fmt: skip


def _alike(results: Results, count: int, phase: Found) -> bool:
    """Whether both limits of the profile's run were about those of `bench`."""
    for kind, limit in (
        ("read", phase["limit_bytes_per_second"]),
        ("multiply", phase["limit_multiply_adds_per_second"]),
    ):
        row = results.row(kind, count)
        if row is None or abs(limit / row["rate"]["median"] - 1) > ROOFS_ALIKE:
            return False
    return True


def _peers(results: Results, count: int, point: Callable[..., None]) -> None:
    """Other engines, by the size of their tensors as they state it."""
    if results.peers is None:
        return
    for colour, name in zip(PEER_COLOURS, list(results.peers["engines"])[1:], strict=False):
        said = re.search(r"([\d.]+) MB", results.peers["engines"][name].get("model", ""))
        if said is None:
            continue
        label: str | None = name
        for row in results.peers["rows"]:
            if row["engine"] != name or row["threads"] != count:
                continue
            tokens, marker = 1, "o"
            if row["kind"] == "prefill":
                tokens, marker = int(row["case"].rpartition(" ")[2]), "s"
            size = 1e6 * float(said[1])
            point(tokens, row["rate"]["median"], size, marker=marker, color=colour, label=label)
            label = None
