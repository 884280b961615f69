"""Runs passes of one model, one at a time, whichever thread asks.

No thread of its own: the calling thread takes the model's lock, computes with its
OpenMP team, and hands on. A pass that is cancelled or interrupted leaves its cache
as it was before.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import CancelledError, ClosedError
from .interfaces.head_query import Candidates, HeadQuery
from .kernels.threads import release_team
from .kernels.workspace import Workspace
from .kv_cache import KVCache
from .models import CausalLM
from .profiling.observed import ObservedGraph, Observer

__all__ = ["PASS_TOKENS", "Runner", "new_cancel_flag"]

# Tokens of a prompt that go through the model together. More saves little and costs memory
# and time between looks at Ctrl-C; results do not depend on it.
PASS_TOKENS = 512
# Rows of logits made at a time when all are wanted: 64 x 128,256 floats are 33 MB.
HEAD_TOKENS = 64

# Multiply-adds below which a call stays serial (measured: a fork and join takes 1-3 us).
SERIAL_BELOW = 1 << 20

Kept = TypeVar("Kept")
Float32 = NDArray[np.float32]
CancelFlag = NDArray[np.int32]


def new_cancel_flag() -> CancelFlag:
    """int32 (1,); non-zero asks the pass that polls it to stop."""
    return np.zeros(1, np.int32)


class Runner:
    """
    Parameters
    ----------
    graph : CausalLM
    n_threads : int
        Threads of every parallel region.
    """

    def __init__(self, graph: CausalLM, n_threads: int) -> None:
        self._graph: CausalLM | None = graph
        self._space = Workspace(n_threads, SERIAL_BELOW)
        self._lock = threading.Lock()
        self._callers = 0
        self._observers: tuple[Observer, ...] = ()
        _runners.add(self)

    @property
    def graph(self) -> CausalLM:
        """The model; `ClosedError` after `close`."""
        if self._graph is None:
            raise ClosedError("the model is closed")
        return self._graph

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._graph is None

    def close(self) -> None:
        """Wait for a running pass, then let go of the weights."""
        with self._lock:
            self._graph = None

    def last_logits(self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag) -> Float32:
        """Append `ids` (at least one) to the cache; logits after the last: float32 (vocab,)."""

        def keep_last(hidden: Float32, is_last: bool) -> Float32 | None:
            return self._logits(hidden[-1:]) if is_last else None

        (logits,) = self._passes(cache, ids, cancel, keep_last)
        last: Float32 = logits[0]
        return last

    def candidates(
        self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag, query: HeadQuery
    ) -> Candidates:
        """Append `ids` (at least one) to the cache; the head's answer after the last."""

        def keep_last(hidden: Float32, is_last: bool) -> Candidates | None:
            return self._candidates(hidden[-1:], [query])[0] if is_last else None

        (result,) = self._passes(cache, ids, cancel, keep_last)
        return result

    def all_logits(
        self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag
    ) -> Iterator[Float32]:
        """Append `ids` to the cache; logits after each, in blocks float32 (<= 64, vocab).

        The whole prompt goes through before the first block comes, so a cache is never
        left half way by a consumer that stops early.
        """
        hidden = np.concatenate(self._passes(cache, ids, cancel, lambda rows, _: rows))
        for start in range(0, len(hidden), HEAD_TOKENS):
            rows = hidden[start : start + HEAD_TOKENS]
            yield self._exclusively(cancel, lambda rows=rows: self._logits(rows))  # type: ignore[misc]

    def batch_candidates(
        self,
        caches: Sequence[KVCache],
        ids: Sequence[int],
        cancel: CancelFlag,
        queries: Sequence[HeadQuery],
    ) -> list[Candidates]:
        """One more token for each of several sequences in one pass, as `candidates` for each."""
        return self._batch(caches, ids, cancel, lambda rows: self._candidates(rows, queries))

    def batch_logits(
        self, caches: Sequence[KVCache], ids: Sequence[int], cancel: CancelFlag
    ) -> Float32:
        """One more token for each of several sequences in one pass: float32 (n, vocab)."""
        return self._batch(caches, ids, cancel, self._logits)

    def _batch(
        self,
        caches: Sequence[KVCache],
        ids: Sequence[int],
        cancel: CancelFlag,
        keep: Callable[[Float32], Kept],
    ) -> Kept:
        """`keep(last hidden states)` after one more token for each of several different caches."""
        if len({id(cache) for cache in caches}) != len(caches) or len(caches) != len(ids):
            raise ValueError(f"{len(ids)} tokens for {len(caches)} caches, which must differ")
        layout = caches[0].layout
        if any(cache.layout != layout for cache in caches):
            raise ValueError("caches of different layouts in one pass")

        def work() -> Kept:
            segments = [(1, cache.length, cache.table) for cache in caches]
            tokens = np.asarray(ids, np.int64)
            return keep(self._engine.hidden_states(tokens, segments, layout, self._space))

        before = [cache.length for cache in caches]
        with ExitStack() as claims:
            for cache in caches:
                claims.enter_context(cache.claim())
            try:
                for cache in caches:
                    cache.reserve(cache.length + 1)
                result = self._exclusively(cancel, work)
                for cache in caches:
                    cache.length += 1
            except BaseException:
                for cache, length in zip(caches, before, strict=True):
                    cache.cut(length)
                raise
        return result

    def _logits(self, hidden: Float32) -> Float32:
        return self._engine.logits(hidden, self._space)

    def _candidates(self, hidden: Float32, queries: Sequence[HeadQuery]) -> list[Candidates]:
        return self._engine.candidates(hidden, queries, self._space)

    def _passes(
        self,
        cache: KVCache,
        ids: Sequence[int],
        cancel: CancelFlag,
        keep: Callable[[Float32, bool], Kept | None],
    ) -> list[Kept]:
        """`ids` in passes of PASS_TOKENS; what `keep(hidden, is_last)` gives for each but None.

        The lock is given up between passes, so that another session's token need not wait
        for a whole prompt.
        """
        tokens = np.asarray(ids, np.int64)
        kept: list[Kept] = []
        with cache.claim():
            before = cache.length
            try:
                cache.reserve(before + len(tokens))
                for start in range(0, len(tokens), PASS_TOKENS):
                    part = tokens[start : start + PASS_TOKENS]
                    is_last = start + len(part) == len(tokens)
                    result = self._exclusively(
                        cancel,
                        lambda part=part, is_last=is_last: keep(self._hidden(cache, part), is_last),  # type: ignore[misc]
                    )
                    cache.length += len(part)
                    if result is not None:
                        kept.append(result)
            except BaseException:  # KeyboardInterrupt too: the cache stays usable
                cache.cut(before)
                raise
        return kept

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every computation from now on."""
        with self._lock:
            self._observers = (*self._observers, observer)
            self._space.profiling = True

    def ignore(self, observer: Observer) -> None:
        """Tell it no more."""
        with self._lock:
            self._observers = tuple(other for other in self._observers if other is not observer)
            self._space.profiling = bool(self._observers)

    def sampled(self, seconds: float) -> None:
        """Whoever chooses tokens from the logits may say how long it took."""
        for observer in self._observers:
            observer.sampled(seconds)

    @property
    def _engine(self) -> CausalLM:
        """The model as passes call it."""
        return ObservedGraph(self.graph, self._observers) if self._observers else self.graph

    def _hidden(self, cache: KVCache, tokens: NDArray[np.int64]) -> Float32:
        segments = [(len(tokens), cache.length, cache.table)]
        return self._engine.hidden_states(tokens, segments, cache.layout, self._space)

    def _exclusively(self, cancel: CancelFlag, work: Callable[[], Kept]) -> Kept:
        """What `work()` gives while no other thread computes with this model.

        The lock is held by a plain `with`: Python takes no signal between acquiring it and the
        body, so Ctrl-C cannot leave it locked.
        """
        self._callers += 1
        try:
            with self._lock:
                self._space.use_cancel_flag(cancel)
                result = work()
                _raise_if_cancelled(cancel)
            return result
        finally:
            self._callers -= 1
            # libgomp keeps a team per calling thread: sixteen callers on sixteen cores would
            # keep 240 workers. Whoever hands over to another thread sends its workers home.
            if self._callers:
                release_team()

    def retire(self) -> None:
        """The calling thread is done for now; unless it is the main thread, its workers end."""
        if threading.current_thread() is not threading.main_thread():
            release_team()

    def _after_fork(self) -> None:
        # The lock may have been held by a thread that the child does not have.
        self._lock = threading.Lock()
        self._callers = 0


def _raise_if_cancelled(cancel: CancelFlag) -> None:
    if cancel[0]:
        raise CancelledError("the pass was cancelled; the cache is as it was before it")


_runners: weakref.WeakSet[Runner] = weakref.WeakSet()


def _reset_runners(*_: Any) -> None:
    for runner in list(_runners):
        runner._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_runners)
