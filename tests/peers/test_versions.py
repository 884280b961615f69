"""`python -m benchmarks.versions`: versions or tiers in turns, and no figures if outputs differ."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import ryzanstein_llm
from benchmarks.versions import __main__ as versions
from ryzanstein_llm.kernels import cpu

DEMO = str(Path(ryzanstein_llm.__file__).with_name("demo"))


def test_two_tiers_of_this_version(capsys: pytest.CaptureFixture[str]) -> None:
    tiers = [cpu.available_tiers()[0], "scalar"]
    chosen = ["--tier", tiers[0], "--other-tier", tiers[1], "--most", "8", "--rounds", "1"]
    assert versions.main([DEMO, *chosen]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [f"{ryzanstein_llm.__version__}, {tier}" for tier in tiers]
    assert lines[0] == f"1 thread: {names[0]} | {names[1]}"
    together = [f"sequences at once: {count}" for count in (16, 8, 4, 2, 1)]
    assert [line.split("  ")[0] for line in lines[1:8]] == [*2 * ["prompt of 8 tokens"], *together]
    for line in lines[1:8]:
        new, old, ratio = (float(line[32:].split()[place]) for place in (0, 2, 4))
        assert ratio == pytest.approx(old / new, rel=0.1, abs=0.02)
    for line, name in zip(lines[8:], names, strict=True):
        share = r"products of 8 tokens: [\d.]+ of the int8 peak of [\d,]+ GMAC/s"
        assert re.fullmatch(rf"{share} \({re.escape(name)}\)", line)


class Said:
    """A side that answers what it was given."""

    name = "said"

    def __init__(self, *outputs: int) -> None:
        self._outputs = list(outputs)

    def ask(self, name: str, size: int, turn: int) -> dict[str, Any]:
        return {"seconds": 1.0, "output": self._outputs.pop(0)}


def test_outputs_that_differ_give_no_figures() -> None:
    with pytest.raises(RuntimeError, match="prompt of 8 tokens: said and said give different"):
        versions.compare(Said(1, 2), Said(1, 3), ("prompt", 8), 1, 0)  # type: ignore[arg-type]


def test_a_checkpoint_that_does_not_open_ends_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert versions.main(["nowhere", "--other", sys.executable]) == 1
    error = capfd.readouterr().err
    assert "CheckpointNotFoundError" in error
    assert "has ended" in error
