"""From logits to the next token. Knows vocabularies and numbers, no models and no text."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, InvalidParameterError
from ..interfaces.head_query import Candidates, HeadQuery
from ..kernels.elementwise import (
    cumulative_sum,
    enter_float_mode,
    exp,
    exp_of_double,
    leave_float_mode,
    log,
    softmax_weights,
)
from .adjustments import Adjustments, places
from .draw import Outcome, draw_among
from .filters import descending, keep_top_p, keep_typical
from .logprobs import Logprobs, likeliest
from .params import GREEDY_BELOW, SamplingParams
from .seen import Seen

__all__ = ["Sampler"]

Float32 = NDArray[np.float32]

REACH = 8.0
"""Of the whole vocabulary, only logits that are at most so many temperatures below the largest are
sorted at first; others have less than exp(-8) of its weight."""

LONGEST_BREAK = 64
"""Tokens for which all logits are asked for, at most, after the largest ones were not enough."""


class Sampler:
    """Chooses the tokens of one sequence. A choice depends only on the logits, the parameters and
    the tokens before it, so an interrupted choice can be repeated.

    Parameters
    ----------
    params : SamplingParams
    adjustments : Adjustments, optional
        What happens to logits before that.
    """

    def __init__(self, params: SamplingParams, adjustments: Adjustments | None = None) -> None:
        self._params, self._adjustments = params, adjustments or Adjustments()
        seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        self._seed = seed
        self.forget()

    @property
    def needs_all(self) -> bool:
        """Whether it needs the logits of tokens that cannot come next, too: for log probabilities,
        and for processors."""
        return self._adjustments.needs_all

    def bans(self, token: int, new_tokens: int) -> bool:
        """Whether a bias or `min_tokens` rules a token out after so many new tokens."""
        return token in self._adjustments.banned(new_tokens)

    def early_end(self, new_tokens: int) -> InvalidParameterError | None:
        """See `Adjustments`."""
        return self._adjustments.early_end(new_tokens)

    def forget(self) -> None:
        """Forget all tokens. The next `query` counts them again."""
        self._seen, self._written = Seen(), Seen()  # all tokens, and those after the prompt
        self._followed = 0
        self._tokens: Sequence[int] = ()
        self._prompt_tokens = self._index = 0
        # NumPy keeps the raw stream of PCG64 stable for ever, unlike its distributions.
        self._bits, self._drawn = np.random.PCG64(self._seed), 0
        self._number = (-1, 0.0)  # the last random number, and the index that it belongs to
        self._certain: tuple[Candidates, int] | None = None
        self._break = self._next_break = 0

    def query(
        self,
        tokens: Sequence[int],
        prompt_tokens: int,
        draft: Sequence[int] = (),
        index: int | None = None,
    ) -> HeadQuery:
        """The logits that the choice after `tokens` needs. The first `prompt_tokens` of these are
        the prompt. The same query serves the choices after each token of `draft`, if all before it
        are chosen and appended to `tokens`: no choice is worse for more candidates. `index` is how
        many tokens were chosen before; None: those after the prompt, because none was dropped."""
        self._follow(tokens, prompt_tokens)
        self._tokens, self._prompt_tokens, self._certain = tokens, prompt_tokens, None
        self._index = len(tokens) - prompt_tokens if index is None else index
        count, margin = (None, 0.0) if self._adjustments.needs_all else self._reach()
        draw = None
        # the answer to a draw holds for one place
        if self._may_be_certain and not self._adjustments.needs_all and not draft:
            if self._break:
                self._break -= 1
            else:
                count, draw = 1, self
                # until the answer shows that the largest logits are enough
                self._next_break = min(2 * self._next_break + 1, LONGEST_BREAK)
                self._break = self._next_break
        also = None if count is None else self._changed(self._index, draft)
        return HeadQuery(count, margin, also, draw=draw)

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
        Exception
            What `Adjustments.apply` raises.
        """
        ids = candidates.ids
        self._follow(self._tokens, self._prompt_tokens)  # more of the draft may have been chosen
        if self._certain is not None and self._certain[0] is candidates:
            chosen = self._certain[1]
        else:
            mode = enter_float_mode()  # the caller's mode may flush or round differently
            try:
                chosen = self._choose(self._adjusted(candidates, index), index)
            finally:
                leave_float_mode(mode)
        return chosen if ids is None else int(ids[chosen])

    @property
    def temperature(self) -> float:
        """As a float32, which divides logits."""
        return float(np.float32(self._params.temperature))

    def largest_rest(self, candidates: Candidates) -> float:
        """As `Draw` says, for the token that comes next after those of the last `query`."""
        index = self._index
        mode = enter_float_mode()
        try:
            logits = self._adjusted(candidates, index)
            largest = float(logits.max())
            if not np.isfinite(largest):
                return np.inf  # `choose` raises an error
            level = largest / self.temperature
            room = 1e-14 * (abs(level) + abs(candidates.rest)) if candidates.rest > -np.inf else 0.0
            rest = exp_of_double(candidates.rest - level + room)
            outcome = self._outcome(logits, candidates.floor, rest, index)
            if outcome.place is not None:
                self._certain = candidates, outcome.place
                self._break = self._next_break = 0
                return np.inf
            if not 0 < outcome.largest_rest < np.inf:
                return candidates.rest - 1
            return float(log(np.array([outcome.largest_rest]))[0]) + level
        except InvalidParameterError:  # it may be that only these candidates are ruled out
            return candidates.rest - 1
        finally:
            leave_float_mode(mode)

    def logprobs(self, candidates: Candidates, token: int) -> Logprobs | None:
        """Log probabilities of `token` and of the likeliest tokens, as the model gives them, before
        anything changes the logits; None if they are not asked for."""
        count = self._adjustments.logprobs
        return None if count is None else likeliest(candidates.logits, token, count)

    def _follow(self, tokens: Sequence[int], prompt_tokens: int) -> None:
        """Count the tokens that came since the last call."""
        if not self._penalizes:
            return
        if self._followed < len(tokens):
            self._seen.add(tokens[self._followed :])
        if max(self._followed, prompt_tokens) < len(tokens):
            self._written.add(tokens[max(self._followed, prompt_tokens) :])
        self._followed = len(tokens)

    def _reach(self) -> tuple[int | None, float]:
        """(count, margin) of the query. Both are the same with penalties and biases, because `also`
        holds all tokens whose logits these change."""
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

    def _changed(self, new_tokens: int, draft: Sequence[int]) -> NDArray[np.int64] | None:
        """Ids whose logits the next choice changes, or one after a part of the draft, rising; None
        if there are none."""
        changed = self._adjustments.changed(new_tokens)
        if self._penalizes:
            seen = self._seen if self._params.repetition_penalty != 1 else self._written
            ids = np.union1d(seen.ids, np.array(draft, np.int64)) if draft else seen.ids
            changed = np.union1d(changed, ids) if len(changed) else ids
        return changed if len(changed) else None

    def _random(self, index: int) -> float:
        """The number in [0, 1) for the choice with this index."""
        if self._number[0] != index:
            if self._drawn != index:
                self._bits, self._drawn = np.random.PCG64(self._seed), 0
                self._bits.advance(index)
            self._drawn = index + 1
            self._number = index, float(self._bits.random_raw() >> 11) * 2.0**-53
        return self._number[1]

    def _adjusted(self, candidates: Candidates, index: int) -> Float32:
        """The logits from which the token with this index is chosen."""
        logits, ids, allowed = candidates.logits, candidates.ids, candidates.allowed
        if self._adjustments.changes(index) or allowed is not None:
            _check_finite(logits.max())
            logits = self._adjustments.apply(logits, ids, self._tokens, index, allowed)
        return self._penalized(logits, ids) if self._penalizes else logits

    def _choose(self, logits: Float32, index: int) -> int:
        best = int(logits.argmax())  # the first of equals, or of NaN
        _check_finite(logits[best])
        return best if self._params.temperature < GREEDY_BELOW else self._draw(logits, index)

    @property
    def _penalizes(self) -> bool:
        return self._params.repetition_penalty != 1 or self._counting

    @property
    def _counting(self) -> bool:
        return self._params.presence_penalty != 0 or self._params.frequency_penalty != 0

    def _penalized(self, logits: Float32, ids: NDArray[np.int64] | None) -> Float32:
        params = self._params
        logits = logits.copy()
        if params.repetition_penalty != 1 and len(self._seen.ids):
            at, _ = places(self._seen.ids, ids)
            penalty, values = np.float32(params.repetition_penalty), logits[at]
            logits[at] = np.where(values > 0, values / penalty, values * penalty)
        if self._counting and len(self._written.ids):
            at, known = places(self._written.ids, ids)
            logits[at] -= np.float32(params.presence_penalty)
            logits[at] -= np.float32(params.frequency_penalty) * self._written.counts[known]
        return logits

    @property
    def _may_be_certain(self) -> bool:
        """Whether the largest logits can be enough, though no number of tokens is."""
        params = self._params
        return (
            params.temperature >= GREEDY_BELOW
            and not params.top_k
            and params.typical_p == 1
            and not (params.min_p > 0 and params.top_p == 1)
        )

    def _outcome(self, logits: Float32, floor: float, rest: float, index: int) -> Outcome:
        """The choice among these logits, as a place in them. All logits from `floor` on are there,
        and `rest` bounds the sum of the others' weights, where the largest has weight 1."""
        near = np.flatnonzero(logits >= floor)
        if not len(near):
            return Outcome(None, rest / 2)
        order = near[descending(logits[near], 0)]
        largest, temperature = logits.max(), np.float32(self._params.temperature)
        weights, _ = softmax_weights((logits[order] - largest) / temperature)
        sums = cumulative_sum(weights)
        known = float(sums[-1])
        if len(order) < len(logits):
            others = logits[logits < floor]
            known += float(cumulative_sum(exp((others - largest) / temperature))[-1])
        outcome = draw_among(weights, sums, known, rest, self._params, self._random(index))
        if outcome.place is None:
            return outcome
        return Outcome(int(order[outcome.place]), 0.0)

    def _draw(self, logits: Float32, index: int) -> int:
        params = self._params
        if self._may_be_certain:
            floor = float(logits.max()) - REACH * self.temperature
            place = self._outcome(logits, floor, 0.0, index).place
            if place is not None:
                return place
        ids = descending(logits, params.top_k)
        if logits[ids[-1]] == -np.inf:  # some are ruled out
            ids = ids[logits[ids] > -np.inf]
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


def _check_finite(largest: np.float32) -> None:
    if not np.isfinite(largest):
        raise FormatError(f"the model's logits are not finite ({largest}): its weights overflow")
