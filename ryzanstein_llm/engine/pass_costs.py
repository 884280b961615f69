"""How long a pass of some rows takes here and now, and how many guessed tokens pay for their rows.
Knows numbers only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["PassCosts"]

VALID = 256
"""A measurement that is older than so many passes is forgotten, because the load of the machine may
have changed."""

LEAST_GAIN = 1.05
"""Guesses are computed if they are expected to raise the tokens per second by so much."""


class PassCosts:
    """Seconds of passes in which all sequences decode, by their number of rows, as measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._times: dict[int, int] = {}
        self._passes = 0

    def add(self, rows: int, seconds: float) -> None:
        """A pass of so many rows took so long. Passes are disturbed at times and never hastened, so
        one that was quicker than expected counts for more than one that was slower."""
        self._passes += 1
        known = self._known(rows)
        if known is None:
            known = seconds
        elif seconds < known:
            known += (seconds - known) / 2
        else:
            known += (min(seconds, 2 * known) - known) / 16
        self._seconds[rows], self._times[rows] = known, self._passes

    def seconds(self, rows: int) -> float:
        """What a pass of so many rows will probably take. A pass of fewer or as many was
        measured."""
        known = self._known(rows)
        if known is not None:
            return known
        measured = sorted(each for each in self._seconds if self._known(each) is not None)
        above = bisect_left(measured, rows)
        low = measured[above - 1]
        if above == len(measured):  # a row more costs less than those that are there
            first = measured[0]
            return self._seconds[low] + (rows - low) * self._seconds[first] / (first + 3)
        high = measured[above]
        step = (self._seconds[high] - self._seconds[low]) / (high - low)
        return self._seconds[low] + (rows - low) * step

    def worthwhile(self, chances: Sequence[Sequence[float]]) -> list[int]:
        """How many guesses of each sequence to compute in a pass, for the largest expected number
        of tokens a second.

        Parameters
        ----------
        chances : sequence of sequences of float
            For each sequence of the pass, how likely it is that a guess and all before it are
            right. They do not rise.
        """
        sequences, counts = len(chances), [0] * len(chances)
        if self._known(sequences) is None:
            return counts
        # the likeliest of all first; those of one sequence stay in their order
        order = sorted(
            ((chance, index) for index, each in enumerate(chances) for chance in each),
            key=lambda each: -each[0],
        )
        costs = [self.seconds(sequences + rows) for rows in range(len(order) + 1)]
        for rows in reversed(range(len(order))):
            costs[rows] = min(costs[rows], costs[rows + 1])  # more rows never take less
        expected, best, taken = float(sequences), LEAST_GAIN * sequences / costs[0], 0
        for rows, (chance, _) in enumerate(order, 1):
            expected += chance
            if expected / costs[rows] > best:
                best, taken = expected / costs[rows], rows
        for _, index in order[:taken]:
            counts[index] += 1
        return counts

    def _known(self, rows: int) -> float | None:
        if self._passes - self._times.get(rows, -VALID - 1) > VALID:
            return None
        return self._seconds[rows]
