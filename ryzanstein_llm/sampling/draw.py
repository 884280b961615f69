"""A draw from the largest weights, when the others are known only as a sum, or as bounds of one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .params import SamplingParams

__all__ = ["Outcome", "draw_among"]

ROUNDINGS = 1e-9
"""Of a sum in double of a million weights, relative; their real error is below 1e-10."""

ALMOST_ONE = 1 - 1e-6
"""A random number above this might be rounded to 1 times the sum."""

PATIENCE = 4
"""So many times smaller than what is known the rest should be if it is not clear how small it has
to be."""


class Outcome(NamedTuple):
    """
    Attributes
    ----------
    place : int or None
        The place that is drawn, counted from the largest weight; None if it depends on the rest.
    largest_rest : float
        If it does: how small the rest should be, an estimate.
    """

    place: int | None
    largest_rest: float


def draw_among(
    weights: NDArray[np.float32],
    sums: NDArray[np.float64],
    known: float,
    rest: float,
    params: SamplingParams,
    random: float,
) -> Outcome:
    """What top_p, min_p and a random number choose of all tokens.

    Every step of the choice rises with the sum of all weights, or does not depend on it. So if the
    least and the largest possible sum give the same place, the true one does too.

    Parameters
    ----------
    weights : falling, all that are at least as large as the last of them
    sums : their running sums
    known : float >= sums[-1]
        The sum of all weights that are known, in any order.
    rest : float >= 0
        The sum of all others is not negative and at most this.
    random : float in [0, 1)
    """
    low = _kept(weights, sums, known * (1 - ROUNDINGS), params, 0.0)
    high = _kept(weights, sums, (known + rest) * (1 + ROUNDINGS), params, float(weights[-1]))
    places = np.searchsorted(sums, (random * low, random * high), side="right")
    place = int(places[0])
    if place == places[1] < len(sums) and random < ALMOST_ONE:
        return Outcome(place, rest)
    return Outcome(None, _largest_rest(weights, sums, place, known, rest, params, random))


def _kept(
    weights: NDArray[np.float32],
    sums: NDArray[np.float64],
    total: float,
    params: SamplingParams,
    following: float,
) -> float:
    """The sum of the weights that top_p and min_p keep of `total`. If they keep more than all of
    these, a bound: what follows weighs `following` or nothing."""
    kept = total
    if params.top_p < 1:
        count = int(np.searchsorted(sums, params.top_p * total, side="left")) + 1
        kept = float(sums[count - 1]) if count <= len(sums) else params.top_p * total + following
    if params.min_p > 0:
        count = int(np.count_nonzero(weights >= np.float32(params.min_p) * weights[0]))
        if count < len(weights):
            kept = min(kept, float(sums[count - 1]))
    return kept


def _largest_rest(
    weights: NDArray[np.float32],
    sums: NDArray[np.float64],
    place: int,
    known: float,
    rest: float,
    params: SamplingParams,
    random: float,
) -> float:
    """The rest with which the choice stays just at `place`."""
    if place >= len(sums) or not 0 < random < ALMOST_ONE:
        return min(known, rest) / PATIENCE
    limit = float(sums[place]) / random  # what is kept has to be less
    if params.top_p < 1:
        count = int(np.searchsorted(sums, limit, side="left"))
        inside = float(sums[count - 1]) if count else 0.0
        if count == len(sums):
            inside = max(inside, limit - float(weights[-1]))
        limit = inside / params.top_p
    largest = 0.99 * (limit - known)
    return largest if largest > 0 else min(known, rest) / PATIENCE
