"""From logits to the next token. Knows vocabularies and numbers, no models and no text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..interfaces.head_query import Candidates, HeadQuery
from ..kernels.elementwise import (
    cumulative_sum,
    enter_float_mode,
    leave_float_mode,
    log,
    softmax_weights,
)
from .filters import descending, keep_top_p, keep_typical
from .params import GREEDY_BELOW, SamplingParams

__all__ = ["Sampler"]

Float32 = NDArray[np.float32]


class Sampler:
    """Chooses the tokens of one sequence. A choice depends only on the logits, the parameters and
    the tokens before it, so an interrupted choice can be repeated.

    Parameters
    ----------
    params : SamplingParams
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        self._seed = seed
        self.forget()

    def forget(self) -> None:
        """Forget all tokens. The next `query` counts them again."""
        self._seen: set[int] = set()
        self._counts: Counter[int] = Counter()
        self._followed = 0
        # NumPy keeps the raw stream of PCG64 stable for ever, unlike its distributions.
        self._bits, self._drawn = np.random.PCG64(self._seed), 0

    def query(self, tokens: Sequence[int], prompt_tokens: int) -> HeadQuery:
        """The logits that the choice after `tokens` needs. The first `prompt_tokens` of these are
        the prompt."""
        self._follow(tokens, prompt_tokens)
        count, margin = self._reach()
        also = None if count is None else self._changed()
        return HeadQuery(count, margin, also)

    def choose(self, candidates: Candidates, index: int) -> int:
        """The next token id.

        Parameters
        ----------
        candidates : Candidates
            The answer to `query`, or to a query for more. It is not changed.
        index : int
            How many tokens were chosen before.

        Raises
        ------
        FormatError
            If the logits are not finite: the checkpoint's weights overflow.
        """
        logits, ids = candidates.logits, candidates.ids
        mode = enter_float_mode()  # the caller's mode may flush or round differently
        try:
            chosen = self._choose(
                self._penalized(logits, ids) if self._penalizes else logits, index
            )
        finally:
            leave_float_mode(mode)
        return chosen if ids is None else int(ids[chosen])

    def _follow(self, tokens: Sequence[int], prompt_tokens: int) -> None:
        """Count the tokens that came since the last call."""
        if not self._penalizes:
            return
        for index in range(self._followed, len(tokens)):
            token = tokens[index]
            self._seen.add(token)
            if index >= prompt_tokens:
                self._counts[token] += 1
        self._followed = len(tokens)

    def _reach(self) -> tuple[int | None, float]:
        """(count, margin) of the query. Both are the same with penalties, because `also` holds
        all tokens whose logits penalties change."""
        params = self._params
        if params.temperature < GREEDY_BELOW:
            return 1, 0.0
        if params.top_k:
            return params.top_k, 0.0
        if params.min_p > 0 and params.top_p == 1:
            # a little more than needed: the exact rule drops what is too much
            distance = -float(log(np.array([params.min_p]))[0])
            return 1, params.temperature * distance * 1.001 + 0.01
        return None, 0.0

    def _changed(self) -> NDArray[np.int64] | None:
        """Ids whose logits the next choice changes, rising; None if there are none."""
        changed = self._seen if self._params.repetition_penalty != 1 else self._counts.keys()
        if not self._penalizes or not changed:
            return None
        return np.array(sorted(changed), np.int64)

    def _random(self, index: int) -> float:
        """The number in [0, 1) for the choice with this index."""
        if self._drawn != index:
            self._bits, self._drawn = np.random.PCG64(self._seed), 0
            self._bits.advance(index)
        self._drawn = index + 1
        return float(self._bits.random_raw() >> 11) * 2.0**-53

    def _choose(self, logits: Float32, index: int) -> int:
        _check_finite(logits.max())  # NaN, if there is one
        if self._params.temperature < GREEDY_BELOW:
            return int(np.argmax(logits))  # the first of equals
        return self._draw(logits, index)

    @property
    def _penalizes(self) -> bool:
        return self._params.repetition_penalty != 1 or self._counting

    @property
    def _counting(self) -> bool:
        return self._params.presence_penalty != 0 or self._params.frequency_penalty != 0

    def _penalized(self, logits: Float32, ids: NDArray[np.int64] | None) -> Float32:
        params = self._params
        logits = logits.copy()
        if params.repetition_penalty != 1 and self._seen:
            seen = _present(np.array(sorted(self._seen), np.int64), ids)
            at = _places(seen, ids)
            penalty, values = np.float32(params.repetition_penalty), logits[at]
            logits[at] = np.where(values > 0, values / penalty, values * penalty)
        if self._counting and self._counts:
            counted = _present(np.array(sorted(self._counts), np.int64), ids)
            at = _places(counted, ids)
            counts = np.array([self._counts[token] for token in counted.tolist()], np.float32)
            logits[at] -= np.float32(params.presence_penalty)
            logits[at] -= np.float32(params.frequency_penalty) * counts
        return logits

    def _draw(self, logits: Float32, index: int) -> int:
        params = self._params
        ids = descending(logits, params.top_k)
        # the largest is subtracted first, so that a small temperature cannot cause an overflow
        weights, _ = softmax_weights(
            (logits[ids] - logits[ids[0]]) / np.float32(params.temperature)
        )
        ids, weights = keep_top_p(ids, weights, params.top_p)
        if params.min_p > 0:
            kept = weights >= np.float32(params.min_p) * weights[0]
            ids, weights = ids[kept], weights[kept]
        if params.typical_p < 1:
            ids, weights = keep_typical(ids, weights, params.typical_p)
        sums = cumulative_sum(weights)
        point = self._random(index) * float(sums[-1])
        return int(ids[min(int(np.searchsorted(sums, point, side="right")), len(ids) - 1)])


def _present(wanted: NDArray[np.int64], ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Those of the ids `wanted` that are in `ids`, which lack some if not all tokens are allowed;
    None: all are there."""
    return wanted if ids is None else wanted[np.isin(wanted, ids, assume_unique=True)]


def _places(
    wanted: NDArray[np.int64], ids: NDArray[np.int64] | None
) -> NDArray[np.int64] | NDArray[np.intp]:
    """Positions of the ids `wanted` in `ids`, which hold them all; None: in the vocabulary."""
    return wanted if ids is None else np.searchsorted(ids, wanted)


def _check_finite(largest: np.float32) -> None:
    if not np.isfinite(largest):
        raise FormatError(f"the model's logits are not finite ({largest}): its weights overflow")
