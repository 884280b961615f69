"""Runs of `training` small enough for tests: a few steps on the five kilobytes of a tale.

Importing this module skips the importing test module where the extra `training` is missing.
"""

# ruff: noqa: E402 - the skip comes before the imports that need the extra

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extras import needs_extra

needs_extra("training", "matplotlib.figure", "torch")

import torch

from training.directory import RunDirectory
from training.finish import finish
from training.machine import Machine
from training.run import Run
from training.settings import Budget, Settings, Shape

TALE = Path(__file__).parent / "data" / "validation_tale.txt"

# grouped-query attention; nothing a power of two; a context of which the tale fills 40
SHAPE = Shape(hidden=48, inner=112, layers=2, heads=6, kv_heads=2, vocabulary=400, context=48)


def eager() -> Machine:
    """float32 on the CPU, not compiled."""
    return Machine(torch.device("cpu"), bfloat16=False, compiled=False, name="a test")


def settings(steps: int = 8, **changes: Any) -> Settings:
    return Settings(**{"shape": SHAPE, "budget": Budget(steps=steps), "rows": 4, **changes})


def train_toy(
    directory: Path,
    chosen: Settings | None = None,
    *,
    stop: Callable[[int], bool] = lambda steps: False,
    report: Callable[[str], None] = lambda line: None,
) -> RunDirectory:
    """A run in `directory`/run, on texts in `directory`/texts."""
    texts = directory / "texts"
    texts.mkdir(exist_ok=True)
    shutil.copy(TALE, texts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = Run(texts, RunDirectory(directory / "run"), chosen or settings(), eager(), report)
        if run.train(stop=stop):
            finish(run)
    finally:
        torch.set_num_threads(threads)
    return RunDirectory(directory / "run")
