"""What to type next, as lines that can be copied into a shell."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .settings import Settings

__all__ = ["after", "resume"]


def resume(arguments: Sequence[str]) -> str:
    """The command that goes on with an interrupted run.

    Parameters
    ----------
    arguments
        Of the command line that began or resumed it.
    """
    return shlex.join([*_python(), "-m", "training", *arguments])


def after(texts: Path, directory: Path, settings: Settings, prompt: str) -> list[str]:
    """Commands for a run that is finished: to generate with its model, and to train it further; of
    a teacher, to train with it.

    Parameters
    ----------
    texts, directory
        As they were typed.
    prompt
        For the first of them.
    """
    next_directory = _unused(directory)
    train = [*_python(), "-m", "training", "train", str(texts), str(next_directory)]
    if settings.validation is not None:
        train += ["--validation", settings.validation]
    if not settings.ternary:
        return [shlex.join([*train, "--teacher", str(directory)])]
    amount = ["--steps", str(settings.budget.steps)]
    if settings.budget.minutes is not None:
        amount = ["--minutes", f"{settings.budget.minutes:g}"]
    rate = ["--learning-rate", f"{settings.learning_rate * 2 / 3:.2g}"]
    generate = [_program("ryzanstein-llm"), "generate", prompt, "--model"]
    return [
        shlex.join([*generate, str(directory / "packed")]),
        shlex.join([*train, "--from", str(directory / "bf16"), *amount, *rate]),
    ]


def _unused(directory: Path) -> Path:
    """`directory` with the next number that no other file has: model, model-2, model-3."""
    parts = re.fullmatch(r"(.*?)(?:-(\d+))?", str(directory), re.S)
    assert parts is not None
    number = int(parts[2] or 1) + 1
    while (found := Path(f"{parts[1]}-{number}")).exists():
        number += 1
    return found


def _python() -> list[str]:
    return ["python" if _same("python", sys.executable) else sys.executable]


def _program(name: str) -> str:
    """Its name where the shell finds the one of this Python, else its path."""
    path = Path(sys.executable).parent / name
    return name if _same(name, str(path)) or not path.exists() else str(path)


def _same(name: str, path: str) -> bool:
    """Whether the shell would start this file."""
    found = shutil.which(name)
    return found is not None and Path(found).parent == Path(path).parent
