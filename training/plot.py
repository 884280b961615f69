"""The loss curve as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["plot_history"]


def plot_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw training loss, bits per byte of the held-out text and learning rate over tokens seen.

    Parameters
    ----------
    path
        Replaced; its suffix is the format.
    history
        Rows with `tokens`, `loss` (nats a token), `bits_per_byte` and `learning_rate`.
    """
    from matplotlib.figure import Figure  # takes a second to import

    tokens = [row["tokens"] / 1e6 for row in history]
    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot(tokens, [row["loss"] / math.log(2) for row in history], ".-", color="tab:blue")
    upper.set_ylabel("training loss, bits a token", color="tab:blue")
    validation = upper.twinx()
    validation.plot(tokens, [row["bits_per_byte"] for row in history], ".-", color="tab:orange")
    validation.set_ylabel("held-out text, bits a byte", color="tab:orange")
    best = min(history, key=lambda row: row["bits_per_byte"])
    validation.plot(best["tokens"] / 1e6, best["bits_per_byte"], "o", color="tab:orange")
    upper.set_title(
        f"best {best['bits_per_byte']:.4f} bits a byte after {best['epochs']:.1f} epochs"
    )
    upper.grid(alpha=0.3)
    lower.plot(tokens, [row["learning_rate"] for row in history], color="tab:gray")
    lower.set_ylabel("learning rate")
    lower.set_xlabel("million tokens")
    lower.grid(alpha=0.3)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    figure.savefig(partial, dpi=110)
    partial.replace(path)
