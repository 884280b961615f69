"""What all pictures have in common. Needs the extra `plots`.

On a white ground of their own, so that they can be read in a dark viewer as well, and as wide as a
page of README.md on the web.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

__all__ = [
    "BLUE", "COLOURS", "GREEN", "GREY", "MARKERS", "ORANGE", "PURPLE", "RED", "SKY", "STYLE",
    "WIDTH", "colours_below", "legend_below", "only_bars", "plt", "thousands",
]  # fmt: skip

# Okabe and Ito's colours: told apart by every kind of eye.
BLUE, ORANGE, GREEN, PURPLE, RED, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#aaaaaa",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")

WIDTH = 8.0  # inches

STYLE: Any = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "text.color": "#222222", "axes.labelcolor": "#222222", "axes.edgecolor": "#888888",
    "xtick.color": "#222222", "ytick.color": "#222222", "axes.grid": True,
    "grid.color": "#dddddd", "axes.axisbelow": True, "font.size": 11, "axes.titlesize": 12,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "svg.hashsalt": "ryzanstein_llm", "svg.fonttype": "path",
}  # fmt: skip


def only_bars(axes: Any, labels: list[Any]) -> None:
    """An axis for bars with their figures behind them: it begins at zero, ends where the longest
    of the texts does, and needs no numbers of its own."""
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    for label in labels:
        label.set_in_layout(False)  # else the layout makes room for them beside the axes
    axes.figure.draw_without_rendering()
    whole = axes.get_window_extent().width
    ends = [
        label.get_position()[0] * whole / max(0.97 * whole - label.get_window_extent().width, 1)
        for label in labels
    ]
    axes.set_xlim(0, max(ends))


def legend_below(figure: Any, columns: int, **options: Any) -> None:
    """A legend that nothing can lie under."""
    figure.legend(loc="outside lower center", ncols=columns, **options)


def colours_below(figure: Any, names: Mapping[str, str]) -> None:
    """A legend of names by colour."""
    patches = [Patch(color=colour, label=name) for colour, name in names.items()]
    legend_below(figure, len(patches), handles=patches)


def thousands(axis: Any) -> None:
    """Numbers in full, with commas, on a logarithmic axis too."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
