"""How fast a run is now, and how long the rest of it takes."""

from __future__ import annotations

from collections import deque

from .settings import Budget

__all__ = ["Pace"]

STEPS = 100
"""The speed is the mean of so many last steps, and of the looks at the model between them."""


class Pace:
    """Counts the seconds that a budget counts.

    Attributes
    ----------
    seconds : float
        Of training so far, over all processes of the run.
    """

    def __init__(self, budget: Budget, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._budget = budget
        self._last: deque[float] = deque(maxlen=STEPS)

    def add(self, seconds: float) -> None:
        """A step took so long, with what was done after the step before."""
        self.seconds += seconds
        self._last.append(seconds)

    @property
    def step_seconds(self) -> float | None:
        """Seconds a step takes; None before the first."""
        return sum(self._last) / len(self._last) if self._last else None

    def left(self, steps: int) -> float | None:
        """Seconds until the budget is used up, after `steps` steps; None if nothing tells yet."""
        if self._budget.minutes is not None:
            return max(0.0, 60 * self._budget.minutes - self.seconds)
        if self.step_seconds is None or self._budget.steps is None:
            return None
        return max(0, self._budget.steps - steps) * self.step_seconds
