"""A query to the output head for one hidden state, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidates", "Draw", "HeadQuery"]


@dataclass(eq=False, slots=True)
class HeadQuery:
    """Which logits the choice of one token needs.

    Attributes
    ----------
    count : int >= 1, or None
        The `count` likeliest tokens, not counting those of `also`; None: every token.
    margin : float >= 0
        Also the tokens whose logits are at most this far below the likeliest.
    also : int64 array of rising ids, or None
        Also these tokens, because their logits are changed before the choice.
    allowed : bool array of shape (vocab_size,), or None
        Only tokens for which this is True.
    draw : Draw or None
        Also as many of the likeliest as this draw needs to be certain.
    """

    count: int | None = 1
    margin: float = 0.0
    also: NDArray[np.int64] | None = None
    allowed: NDArray[np.bool_] | None = None
    draw: Draw | None = None


@dataclass(eq=False, slots=True)
class Candidates:
    """At least the tokens asked for.

    Attributes
    ----------
    ids : int64 array of shape (n,), rising, or None
        The tokens that these logits belong to; None: the whole vocabulary.
    logits : float32 array of shape (n,)
        Equal bit for bit to those that the full head gives.
    floor : float
        The logit of every other allowed token is less.
    rest : float
        The logarithm of the sum of exp(logit / temperature) over these other tokens is at most
        this. Only for the `draw` of a query; -infinity if nothing is left out.
    allowed : bool array of shape (n,), or None
        Of these tokens, only those for which this is True may come. None: all.
    """

    ids: NDArray[np.int64] | None
    logits: NDArray[np.float32]
    floor: float = -np.inf
    rest: float = -np.inf
    allowed: NDArray[np.bool_] | None = None


class Draw(Protocol):
    """The random choice of a token, of which the largest logits may be all that matters."""

    @property
    def temperature(self) -> float:
        """Divides the logits."""
        ...

    def largest_rest(self, candidates: Candidates) -> float:
        """The largest `rest` with which the choice among these candidates would be certain:
        infinity if it is certain as they are. Otherwise an estimate, less than `candidates.rest`,
        that is worth trying."""
        ...
