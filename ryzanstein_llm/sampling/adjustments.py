"""What a request does to logits before penalties and temperature: biases, bans, functions of the
caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidParameterError

__all__ = ["BAN", "Adjustments", "LogitsProcessor", "places"]

BAN = -100.0
"""A bias that rules a token out."""

Float32 = NDArray[np.float32]
Ids = NDArray[np.int64]
LogitsProcessor = Callable[[list[int], Float32], Any]


class Adjustments:
    """Applied in this order: biases are added, processors are called, and tokens are banned, so
    that a ban holds whatever a processor says. So does the form of a text.

    Parameters
    ----------
    bias : mapping from token id to float
        BAN or less rules a token out; anything else is added to its logit.
    min_tokens : int >= 0
        Until there are so many new tokens, `ends` are banned.
    ends : collection of int
    processors : sequence of callable (tokens, logits)
        Each gets a copy of all tokens so far and the logits, float32 (vocab_size,), which it may
        change. What it returns takes their place, unless that is None.
    logprobs : int or None
        Log probabilities are reported, with so many alternatives.
    """

    def __init__(
        self,
        *,
        bias: Mapping[int, float] | None = None,
        min_tokens: int = 0,
        ends: Collection[int] = (),
        processors: Sequence[LogitsProcessor] = (),
        logprobs: int | None = None,
    ) -> None:
        given = dict(sorted((bias or {}).items()))
        banned = {token for token, value in given.items() if value <= BAN}
        self.logprobs = logprobs
        self._processors = tuple(processors)
        self._min_tokens = min_tokens
        self._biased = _ids(set(given) - banned)
        self._bias = np.array([given[token] for token in self._biased.tolist()], np.float32)
        self._banned, self._banned_early = _ids(banned), _ids(banned | set(ends))
        self._changed, self._changed_early = _ids(given), _ids(set(given) | set(ends))

    @property
    def needs_all(self) -> bool:
        """Whether the logits of the whole vocabulary are needed."""
        return bool(self._processors) or self.logprobs is not None

    def changes(self, new_tokens: int) -> bool:
        """Whether it changes anything after so many new tokens."""
        return bool(len(self._biased) or len(self.banned(new_tokens)) or self._processors)

    def changed(self, new_tokens: int) -> Ids:
        """Ids whose logits it changes, rising, not counting what processors do."""
        return self._changed_early if new_tokens < self._min_tokens else self._changed

    def banned(self, new_tokens: int) -> Ids:
        """Ids that must not come next, rising."""
        return self._banned_early if new_tokens < self._min_tokens else self._banned

    def early_end(self, new_tokens: int) -> InvalidParameterError | None:
        """What is wrong if the form of a text allows no more than so many new tokens; None if
        nothing is."""
        if new_tokens >= self._min_tokens:
            return None
        problem = f"is {self._min_tokens}, but the form of the text is complete after {new_tokens}"
        return InvalidParameterError(f"{problem} new tokens", "min_tokens")

    def apply(
        self,
        logits: Float32,
        ids: Ids | None,
        tokens: Sequence[int],
        new_tokens: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Float32:
        """The changed logits, a copy. -infinity: the token is ruled out.

        Parameters
        ----------
        logits : float32 array of shape (n,)
        ids : int64 array of shape (n,), rising, or None
            The tokens that the logits belong to, among them all of `changed`, except those that
            somebody else has ruled out; None: the whole vocabulary.
        tokens : sequence of int
            All tokens so far, of which the last `new_tokens` are new.
        allowed : bool array of shape (n,), or None
            Tokens that the form of the text allows; the others are ruled out after processors.

        Raises
        ------
        InvalidParameterError
            If a processor returns no logits, changes the shape or dtype of those that it was given,
            or raises what is no error of a request, or if all tokens are ruled out.
        Exception
            Whatever else a processor raises.
        """
        logits = logits.copy()
        at, known = places(self._biased, ids)
        logits[at] += self._bias[known]
        size = len(logits)
        for processor in self._processors:
            try:
                found = processor(list(tokens), logits)
            except BaseException as error:
                if _is_error_of_request(error):
                    raise
                problem = f"raised {type(error).__name__}, which is no error of a request"
                raise InvalidParameterError(problem, "logits_processor") from error
            logits = _checked(found, logits, size)
        logits[places(self.banned(new_tokens), ids)[0]] = -np.inf
        if allowed is not None:
            logits[~allowed] = -np.inf
        if logits.max() == -np.inf:
            raise InvalidParameterError(
                "logit_bias, min_tokens and logits_processor rule out every token that could come "
                f"next, after {new_tokens} new tokens"
            )
        return logits


def _is_error_of_request(error: BaseException) -> bool:
    """Whether it may leave a processor. StopIteration would end a loop over a stream as if the text
    were complete. What is no Exception would end the thread that computes, for other requests too;
    in the main thread it may be from a signal handler."""
    if isinstance(error, Exception):
        return not isinstance(error, StopIteration | StopAsyncIteration)
    return threading.current_thread() is threading.main_thread()


def places(wanted: Ids, ids: Ids | None) -> tuple[NDArray[np.int64] | NDArray[np.intp], Any]:
    """(positions in `ids` of those `wanted` that are there, which of `wanted` these are). None for
    `ids`: the whole vocabulary."""
    if ids is None:
        return wanted, slice(None)
    at = np.searchsorted(ids, wanted)
    known = np.flatnonzero(ids[np.minimum(at, len(ids) - 1)] == wanted)
    return at[known], known


def _ids(tokens: Collection[int]) -> Ids:
    return np.array(sorted(tokens), np.int64)


def _checked(found: Any, given: Float32, size: int) -> Float32:
    """The logits that a processor gave back, or made of those that it was given."""
    wanted = f"floats of shape {(size,)} or None"
    try:
        result = given if found is None else np.asarray(found)
    except ValueError as error:  # a list of lists of different lengths
        raise InvalidParameterError(f"must return {wanted}: {error}", "logits_processor") from error
    is_float = result.dtype.kind == "f" if found is not None else result.dtype == np.float32
    if result.shape != (size,) or not is_float:
        got = f"{result.dtype} of shape {result.shape}"
        problem = (
            f"has turned its logits into {got}, from float32 of shape {(size,)}"
            if found is None
            else f"must return {wanted}, not {got}"
        )
        raise InvalidParameterError(problem, "logits_processor")
    with np.errstate(all="ignore"):  # float64 may be too large for float32
        logits = np.array(result, np.float32)  # a copy: the processor may keep what it returned
    if not logits.max() < np.inf:  # also if one is NaN
        worst = int(np.argmax(~(logits < np.inf)))
        raise InvalidParameterError(
            f"gives token {worst} the logit {logits[worst]}; it may be finite or -infinity",
            "logits_processor",
        )
    return logits
