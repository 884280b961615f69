"""One sequence of tokens while it is generated."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from collections.abc import Sequence as Items
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import BLOCK_POSITIONS
from ..results import Timings
from ..sampling import Constraint, Logprobs, Sampler
from .gate import Gate
from .kv_cache import KVCache
from .listener import Listener
from .prompt_lookup import NO_DRAFT, Draft, PromptLookup
from .scheduler import Need
from .timed_constraint import TimedConstraint

__all__ = ["Sequence", "without_older_half"]


def without_older_half(tokens: list[int], kept: int) -> list[int]:
    """Tokens without the older half of those after the first `kept`; of an odd number, one less
    than half."""
    return [*tokens[:kept], *tokens[kept + (len(tokens) - kept) // 2 :]]


class Sequence:
    """Tokens, the cache with their keys and values, and the conditions for the end.

    One thread waits for it.

    Parameters
    ----------
    cache : KVCache
        An empty cache.
    tokens : list of int
        The prompt, at least one token. The sequence keeps this list, and appends new tokens to it.
    max_tokens : int >= 0
        The largest number of new tokens.
    context : int or None
        If it has so many tokens and is not at its end, it is `full`, and goes on after `shift`.
    kept : int >= 0
        Tokens at its beginning that `shift` does not drop.
    eos_ids : collection of int
        Tokens that end it and are not part of it.
    stop_ids : collection of int
        More of these, for which the finish reason is "stop".
    listener : Listener or None
    constraint : Constraint or None
        Says which tokens are allowed. Those that it forces are appended without asking the head,
        and go through the model together with the next one, unless log probabilities are reported.
    most_guesses : int >= 0
        The largest number of tokens that are guessed at a time (`PromptLookup`). With a constraint,
        none are.
    arrival : int
        Sequences with smaller numbers came before.

    Attributes
    ----------
    prompt_tokens, reused_tokens : int
        Length of the prompt, and how much of it was in the cache when it began.
    guesses : bool
        Whether it may guess tokens.
    full : bool
        Whether the next token can only be chosen after `shift`.
    dropped_tokens : int
        How many tokens `shift` has dropped.
    drafted_tokens, accepted_tokens : int
        How many guesses went through the model, and how many were right.
    finish_reason : str or None
        Why it ended: "eos" (also if its constraint allows nothing more), "stop" (one of `stop_ids`,
        or the listener said so), "length" or "cancelled"; None before.
    error : Exception or None
        The error that ended it.
    admitted : bool
        Whether the store gave its cache the blocks that are kept for its beginning. False again
        after the store took the blocks.
    cancelled : bool
        Whether it was asked to end.
    choice_unfinished : bool
        Whether a thread is in `query` or `choose` now, or was interrupted there: then sampler and
        listener may not agree with `tokens`, and `recover` must come first.
    gate : Gate
        The gate of the thread that waits for it.
    keep : bool
        Whether its blocks are kept for others when nobody waits for it any more.
    timings : Timings
    logprobs : list of Logprobs
        Of the new tokens, if the sampler reports them.
    """

    def __init__(
        self,
        cache: KVCache,
        tokens: list[int],
        sampler: Sampler,
        *,
        max_tokens: int,
        context: int | None = None,
        kept: int = 0,
        eos_ids: Collection[int] = (),
        stop_ids: Collection[int] = (),
        listener: Listener | None = None,
        constraint: Constraint | None = None,
        most_guesses: int = 0,
        arrival: int = 0,
    ) -> None:
        self.cache, self.tokens, self._sampler = cache, tokens, sampler
        self.arrival = arrival
        self.prompt_tokens, self.reused_tokens = len(tokens), 0
        self.drafted_tokens = self.accepted_tokens = 0
        guesses = most_guesses and constraint is None
        self._lookup = PromptLookup(most_guesses) if guesses else None
        self.guesses = bool(guesses)
        self.cancelled = False
        self.finish_reason: str | None = None if max_tokens > 0 else "length"
        self.error: Exception | None = None
        self.timings = Timings()
        self.admitted = self.choice_unfinished = False
        self._most, self._context, self._kept = max_tokens, context, kept
        self._begin = len(tokens)  # the place of the first new token that is still there
        self._dropped: list[int] = []  # new tokens that are not there any more
        self.dropped_tokens = 0
        self.full = False
        self._end = self._limit(len(tokens), max_tokens)
        self._eos_ids, self._stop_ids = eos_ids, stop_ids
        self._listener = listener
        self._constraint = (
            None if constraint is None else TimedConstraint(constraint, len(tokens), self.timings)
        )
        self._forced: set[int] = set()  # places in `tokens`
        self._allowed: NDArray[np.bool_] | None = None  # if the query asks for others, too
        self.logprobs: list[Logprobs] = []
        self._started: float | None = None
        self.gate = Gate()
        self.keep = True
        self._closed = False
        # reentrant: a signal handler may close it while this thread takes a token
        self._lock = threading.RLock()
        self._append_forced()

    @property
    def new_tokens(self) -> int:
        """Number of tokens generated so far."""
        return len(self._dropped) + len(self.tokens) - self._begin

    @property
    def new_ids(self) -> list[int]:
        """The tokens generated so far, also those that `shift` has dropped."""
        return [*self._dropped, *self.tokens[self._begin :]]

    @property
    def forced_tokens(self) -> int:
        """How many of them were not chosen, but forced by the constraint."""
        return len(self._forced)

    @property
    def chosen_tokens(self) -> int:
        """How many of them were chosen."""
        return self.new_tokens - self.forced_tokens

    @property
    def unread(self) -> bool:
        """Whether its listener has something to read before the end."""
        return self._listener is not None and self._listener.unread

    @property
    def ended(self) -> bool:
        """Whether no more tokens will come."""
        return self.finish_reason is not None or self.error is not None

    @property
    def need(self) -> Need:
        """What has to be computed for its next token."""
        # the last token is computed again if the cache has it, because its logits are needed
        length = min(self.cache.length, len(self.tokens) - 1)
        return Need(len(self.tokens) - length, self.chosen_tokens > 0)

    def start_clock(self) -> None:
        """Start timing the next token, unless it is being timed already."""
        if self._started is None:
            self._started = time.perf_counter()

    def draft(self) -> Draft:
        """Guesses of what comes after its tokens: no more than it may have, and only those whose
        keys and values fit the blocks that its last token needs."""
        if self._lookup is None:
            return NO_DRAFT
        room = min(self._end - len(self.tokens) - 1, -len(self.tokens) % BLOCK_POSITIONS)
        return self._lookup.draft(self.tokens, room)

    def query(self, draft: Items[int] = ()) -> HeadQuery | None:
        """The logits that the choice of its next token needs, and the choices after each guess.
        None if it fails, because of its constraint."""
        with self._lock:
            self.choice_unfinished = True
            query = self._sampler.query(self.tokens, self._begin, draft, self.new_tokens)
            if self._constraint is not None:
                try:
                    allowed = self._constraint.allowed()
                except Exception as error:
                    self.fail(error)
                    return None
                if self._sampler.needs_all:
                    self._allowed = allowed
                else:
                    query.allowed = allowed
            self.choice_unfinished = False
            return query

    def choose(self, candidates: Candidates) -> bool:
        """Choose its next token from the answer to `query`, unless it was closed. Returns whether a
        token was appended. Raises FormatError if the logits are not finite, and what the listener
        raises."""
        with self._lock:
            if self._closed:
                return False
            self.choice_unfinished, appended = True, False
            if self._allowed is not None:
                candidates = replace(candidates, allowed=self._allowed)
            token = self._sampler.choose(candidates, self.new_tokens)
            logprobs = self._sampler.logprobs(candidates, token)
            self._stop_clock()
            if token in self._eos_ids:
                self.finish_reason = "eos"
            elif token in self._stop_ids:
                self.finish_reason = "stop"
            else:
                if logprobs is not None:  # replaces what an interrupted choice has left here
                    self.logprobs[self.new_tokens :] = [logprobs]
                self._append(token)
                self._append_forced()
                appended = True
            self.choice_unfinished = False
            return appended

    def recover(self) -> None:
        """After a thread was interrupted in `query` or `choose`: give sampler, listener and
        constraint all earlier tokens again."""
        with self._lock:
            if self._closed:
                return
            try:
                self._recover()
                self._append_forced()
                self.choice_unfinished = False
            except Exception as error:
                self.fail(error)

    def close(self) -> None:
        """Take no more tokens, from any thread. Waits for a token that is being taken. After that,
        the listener has been told all tokens."""
        with self._lock:
            if self.choice_unfinished:
                self._recover()
                self.choice_unfinished = False
            self._closed = True
            self._listener = None

    def _recover(self) -> None:
        self._sampler.forget()
        if self._constraint is not None:
            self._constraint.forget()
        ended = False
        if self._listener is not None:
            ended = self._listener.replace_tokens(self.new_ids)
        self._end_if(ended)

    def _append(self, token: int) -> None:
        # before the listener: a reader of its text must find the token here
        self.tokens.append(token)
        self._end_if(self._listener is not None and self._listener.add_token(token))

    def _append_forced(self) -> None:
        """Append the tokens that must come next, until there is a choice, or one that ends the text
        or is ruled out."""
        while not self.ended:
            if self._constraint is None or self._sampler.needs_all:
                return
            token = self._constraint.forced(self.tokens)
            if token is None or token in self._stop_ids:
                return
            if self._sampler.bans(token, self.new_tokens):  # the choice says what is wrong
                return
            if len(self.tokens) not in self._forced:  # it may be, after an interrupt
                if self.chosen_tokens > 0:
                    self.timings.decode.append(0.0)
                self._forced.add(len(self.tokens))
            self._append(token)

    def _end_if(self, stop: bool) -> None:
        if self.finish_reason is not None:
            return
        if stop:
            self.finish_reason = "stop"
        elif self._constraint is not None and self._constraint.finished(self.tokens):
            self.finish_reason = "eos"
            self.error = self._sampler.early_end(self.new_tokens)
        elif len(self.tokens) >= self._end:
            self.full = self.new_tokens < self._most
            self.finish_reason = None if self.full else "length"

    def _limit(self, length: int, new: int) -> int:
        """The length at which it ends or is full."""
        return length + new if self._context is None else min(length + new, self._context)

    def shift(self) -> None:
        """Go on without the older half of the tokens. Those that are left are computed again, as a
        prompt would be; its cache must be empty. Tokens that are gone count for no penalty."""
        with self._lock:
            if self._closed:
                return
            tokens = without_older_half(self.tokens, self._kept)
            count = len(self.tokens) - len(tokens)
            dropped = self._dropped + self.tokens[self._begin : self._kept + count]
            begin = max(self._kept, self._begin - count)
            end = self._limit(len(tokens), self._most - self.new_tokens)
            lookup = self._lookup and PromptLookup(self._lookup.most)
            self._sampler.forget()
            # with no call between, so that Ctrl-C comes before or after all of them
            self.tokens[:] = tokens
            self._dropped, self._begin, self._end, self._lookup = dropped, begin, end, lookup
            self.dropped_tokens += count
            self.full = False

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.error, self.choice_unfinished = error, False

    def end_cancelled(self) -> None:
        """End now, because it was cancelled."""
        if self.finish_reason is None:
            self.finish_reason = "cancelled"

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        seconds = now - (self._started if self._started is not None else now)
        self._started = now
        if self.chosen_tokens:
            self.timings.decode.append(seconds)
        else:
            self.timings.prefill = seconds
