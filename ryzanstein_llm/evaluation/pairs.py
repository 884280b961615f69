"""Scores of many pairs of a context and a continuation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import InvalidParameterError
from ..model import BitNetModel
from ..text_table import plural
from .progress import TOGETHER, Progress, part_of

__all__ = ["Likelihood", "score_pairs", "warn_of_shortened"]

log = logging.getLogger(__name__)

Likelihood = tuple[float, bool]
"""The log probability of a continuation in nats, and whether greedy decoding gives it."""


def score_pairs(
    model: BitNetModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    max_length: int,
    progress: Progress | None = None,
    on_result: Callable[[int, Likelihood], None] = lambda place, found: None,
) -> list[Likelihood]:
    """How likely continuations are after their contexts.

    A context is computed once for all its continuations, and contexts that begin alike are computed
    after each other, so that they share their beginning.

    Parameters
    ----------
    model : BitNetModel
    pairs : sequence of (context, continuation)
        As token ids, at least one each.
    max_length : int
        Most tokens that the model reads, so that a pair may have one more. What is too much is cut
        off at the beginning of the context, and a log message says so.
    progress : callable (contexts done, contexts, "scoring"), optional
    on_result : callable (place of the pair, result), optional
        Called as results come.

    Raises
    ------
    InvalidParameterError
        If a continuation has more tokens than `max_length`.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    shortened = 0
    for place, (context, continuation) in enumerate(pairs):
        if len(continuation) > max_length:
            problem = f"must not be less than the {len(continuation)} tokens of a continuation"
            raise InvalidParameterError(f"{problem}, but is {max_length}", "max_length")
        excess = len(context) + len(continuation) - (max_length + 1)
        shortened += excess > 0
        places.setdefault(tuple(context[max(0, excess) :]), []).append(place)
    warn_of_shortened(shortened, max_length)
    found: list[Likelihood] = [(0.0, False)] * len(pairs)
    contexts = sorted(places)
    for start in range(0, len(contexts), TOGETHER):
        part = contexts[start : start + TOGETHER]
        scores = model.score_each(
            [list(context) for context in part],
            [[list(pairs[place][1]) for place in places[context]] for context in part],
            progress=part_of(progress, start, len(contexts), "scoring"),
        )
        for context, own in zip(part, scores, strict=True):
            for place, score in zip(places[context], own, strict=True):
                found[place] = (score.logprob, score.greedy)
                on_result(place, found[place])
    return found


def warn_of_shortened(count: int, max_length: int) -> None:
    """Log that contexts lost their beginnings."""
    if count:
        text = "%s lost the beginning to fit max_length=%d"
        log.warning(text, plural(count, "context"), max_length)
