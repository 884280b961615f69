"""The constraint of a sequence, which follows its tokens and counts the time that it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..results import Timings
from ..sampling import Constraint

__all__ = ["TimedConstraint"]


class TimedConstraint:
    """`Constraint` for one sequence. What it takes is added to `timings.masks`.

    Parameters
    ----------
    constraint : Constraint
    prompt_tokens : int
        How many of the sequence's tokens came before the constraint.
    timings : Timings
    """

    def __init__(self, constraint: Constraint, prompt_tokens: int, timings: Timings) -> None:
        self._constraint, self._prompt_tokens, self._timings = constraint, prompt_tokens, timings

    def allowed(self) -> NDArray[np.bool_] | None:
        """`Constraint.allowed`."""
        with self._timed():
            return self._constraint.allowed()

    def forced(self, tokens: list[int]) -> int | None:
        """`Constraint.forced`, after all of these tokens of the sequence."""
        with self._timed():
            self._constraint.follow(tokens, self._prompt_tokens)
            return self._constraint.forced()

    def finished(self, tokens: list[int]) -> bool:
        """`Constraint.finished`, after all of these tokens of the sequence."""
        with self._timed():
            self._constraint.follow(tokens, self._prompt_tokens)
            return self._constraint.finished

    def forget(self) -> None:
        """`Constraint.forget`."""
        self._constraint.forget()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._timings.masks += time.perf_counter() - start
