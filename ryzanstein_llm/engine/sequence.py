"""One sequence of tokens on its way through the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Protocol

from ..interfaces.head_query import Candidates, HeadQuery
from ..results import Timings
from ..sampling import Sampler
from .kv_cache import KVCache
from .scheduler import Need

__all__ = ["Listener", "Sequence"]

PATIENCE = 0.25
"""Seconds after which a waiting thread looks for itself: a thread that was interrupted at the
wrong moment may have failed to wake it."""


class Listener(Protocol):
    """Is told of each token, by whichever thread computed it."""

    def heard(self, token: int) -> bool:
        """A token was chosen; whether the sequence ends with it."""
        ...

    def replay(self, tokens: list[int]) -> None:
        """Forget all that was heard, and hear these."""
        ...


class Sequence:
    """Tokens, the cache that holds most of them, and what ends it.

    One thread waits for it; `cancel` may be called from any.

    Parameters
    ----------
    cache : KVCache
        Empty.
    tokens : list of int
        The prompt, at least one token; becomes the sequence's own, and new ones are appended.
    max_tokens : int >= 0
        New tokens at most.
    eos_ids : collection of int
        Tokens that end it and are not part of it.
    listener : Listener or None

    Attributes
    ----------
    prompt_tokens, reused_tokens : int
        Length of the prompt, and how much of it was in the cache when it began.
    finish_reason : str or None
        Why it ended: "eos", "stop" (the listener said so), "length" or "cancelled"; None before.
    error : Exception or None
        What it failed with.
    doubtful : bool
        Whether a thread was interrupted while it took a token.
    timings : Timings
    """

    def __init__(
        self,
        cache: KVCache,
        tokens: list[int],
        sampler: Sampler,
        *,
        max_tokens: int,
        eos_ids: Collection[int] = (),
        listener: Listener | None = None,
    ) -> None:
        self.cache, self.tokens, self._sampler = cache, tokens, sampler
        self.prompt_tokens, self.reused_tokens = len(tokens), 0
        self.cancelled = False
        self.finish_reason: str | None = None if max_tokens > 0 else "length"
        self.error: Exception | None = None
        self.timings = Timings()
        self.begun = self.doubtful = False
        self._end = len(tokens) + max_tokens
        self._eos_ids, self._listener = eos_ids, listener
        self._started: float | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def new_tokens(self) -> int:
        """How many were generated."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def ended(self) -> bool:
        """Whether no more tokens will come."""
        return self.finish_reason is not None or self.error is not None

    @property
    def need(self) -> Need:
        """What has to be computed for its next token."""
        # the last token is computed again if the cache has it: its logits are wanted
        length = min(self.cache.length, len(self.tokens) - 1)
        return Need(len(self.tokens) - length, self.new_tokens > 0)

    def start_clock(self) -> None:
        """Time of the next token runs from here, unless it does already."""
        if self._started is None:
            self._started = time.perf_counter()

    def query(self) -> HeadQuery:
        """The logits that the choice of its next token needs."""
        if self.doubtful:
            self._recover()
        return self._sampler.query(self.tokens, self.prompt_tokens)

    def choose(self, candidates: Candidates) -> None:
        """Choose its next token from the answer to `query`. Raises FormatError if the logits are
        not finite, and what the listener raises."""
        token = self._sampler.choose(candidates, self.new_tokens)
        if token in self._eos_ids:
            self._stop_clock()
            self.finish_reason = "eos"
            return
        stop = self._listener is not None and self._listener.heard(token)
        self._stop_clock()
        self.tokens.append(token)
        if stop:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self._end:
            self.finish_reason = "length"

    def _recover(self) -> None:
        """The thread that computed it was interrupted while it took a token: sampler and listener
        learn anew what came before."""
        self._sampler.forget()
        if self._listener is not None:
            self._listener.replay(self.tokens[self.prompt_tokens :])
        self.doubtful = False

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.error = error

    def cancel(self) -> None:
        """End soon; a pass that only cancelled sequences wait for is given up."""
        self.cancelled = True

    def wait(self) -> None:
        """Until `wake`, or for PATIENCE."""
        self._gate.acquire(timeout=PATIENCE)

    def wake(self) -> None:
        """Let the thread that waits look again."""
        if self._gate.locked():
            try:
                self._gate.release()
            except RuntimeError:  # another thread was quicker
                pass

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        seconds = now - (self._started if self._started is not None else now)
        self._started = now
        if self.new_tokens:
            self.timings.decode.append(seconds)
        else:
            self.timings.prefill = seconds
