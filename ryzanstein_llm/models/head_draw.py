"""As many logits as the draw of a token needs, from the screen of the head."""

from __future__ import annotations

import numpy as np

from ..interfaces.head_query import Candidates, Draw
from ..kernels.elementwise import cumulative_sum, exp, log
from ..kernels.head import ScreenedHead
from ..kernels.head_rest import STEPS, STEPS_PER_UNIT, HeadRest
from ..kernels.screening import merge
from ..kernels.workspace import Workspace

__all__ = ["enough_to_draw"]

ATTEMPTS = 6
"""How often the draw is asked, at most. Each time more logits are known."""

ROUNDINGS = 1.001
"""More than what exp in float32, the bounds of steps and sums can lose. Of a sum: relative."""

MOST_IN_STEP = exp((-np.maximum(np.arange(STEPS) - 1, 0) / STEPS_PER_UNIT).astype(np.float32))
"""A row in a step weighs at most so much, where the reference of the search weighs 1."""


def enough_to_draw(
    screen: ScreenedHead,
    workspace: Workspace,
    row: int,
    draw: Draw,
    found: Candidates,
    most: int,
) -> Candidates | None:
    """Enough candidates for a draw; None if more than `most` logits would be needed.

    Parameters
    ----------
    screen, workspace : of the last search
    row : int
        Which hidden state of that search.
    found : Candidates
        What it found: all tokens whose upper bounds reach the logit of the best one.
    """
    if not len(found.logits):  # the call was cancelled
        return found
    rest = HeadRest(screen, workspace, row, draw.temperature)
    reference = rest.reference
    if not np.isfinite(reference) or found.ids is None:
        return None
    counts = rest.counts()
    # of the steps after each one: weights relative to the reference, and rows up to it
    weights = (counts * MOST_IN_STEP).astype(np.float32)
    tails = np.append(cumulative_sum(np.ascontiguousarray(weights[:0:-1]))[::-1], 0.0) * ROUNDINGS
    logs = np.where(tails > 0, log(np.maximum(tails, 1e-300)), -np.inf)
    logs += reference / draw.temperature
    known = np.cumsum(counts)
    ids, logits, at = found.ids, found.logits, 0
    for _ in range(ATTEMPTS):
        # a row of the next step is less than this, with room for the roundings of its bound
        floor = reference - at * draw.temperature / STEPS_PER_UNIT
        floor += 1e-5 * (abs(reference) + abs(reference - floor))
        candidates = Candidates(ids, logits, floor, float(logs[at]))
        largest = draw.largest_rest(candidates)
        if candidates.rest <= largest:
            return candidates
        enough = int(np.searchsorted(-logs, -largest))
        following, at = at + 1, max(enough, at + 1)
        if at >= STEPS or known[at] > most:
            return None
        ids, logits = merge((ids, logits), *rest.rows(following, at))
    return None
