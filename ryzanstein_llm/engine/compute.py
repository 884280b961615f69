"""Passes of one model, one at a time, asked for by any thread.

There is no thread of our own: the thread that has the turn computes with its OpenMP team, and then
hands over. A cancelled or interrupted pass leaves caches as they were.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CacheBudgetError, CancelledError, ClosedError, SessionBusyError
from ..formats.watch import Watch
from ..interfaces.kv_layout import Segment
from ..kernels.threads import Turn, release_team
from ..kernels.workspace import Workspace
from ..models import CausalLM
from ..profiling.observed import ObservedGraph, Observer
from .gate import Gate
from .kv_cache import KVCache

__all__ = [
    "HEAD_TOKENS", "PASS_TOKENS", "CancelFlag", "Compute", "Float32", "Part", "new_cancel_flag",
]  # fmt: skip

PASS_TOKENS = 512
"""Tokens of a prompt that go through the model together. A larger number saves little, takes more
memory, and delays Ctrl-C. Results do not depend on it."""

HEAD_TOKENS = 64
"""Rows of logits that are computed at a time if all are wanted: 64 x 128,256 floats are 33 MB."""

SERIAL_BELOW = 1 << 20
"""Calls with fewer multiply-adds run on one thread (measured: a fork and join takes 1-3 us)."""

Kept = TypeVar("Kept")
Float32 = NDArray[np.float32]
CancelFlag = NDArray[np.int32]
Part = tuple[KVCache, int, NDArray[np.int64]]
"""What a pass computes in one cache: the position of the first id, and ids."""


def new_cancel_flag() -> CancelFlag:
    """int32 (1,). If it is set to 1, the pass that polls it stops."""
    return np.zeros(1, np.int32)


class Compute:
    """
    Parameters
    ----------
    graph : CausalLM
    n_threads : int
        Number of threads of every parallel region.

    Attributes
    ----------
    watches : sequence of Watch
        Of files that the weights may be views of.
    """

    watches: Sequence[Watch] = ()

    def __init__(self, graph: CausalLM, n_threads: int) -> None:
        self._graph: CausalLM | None = graph
        self._n_threads = n_threads
        self._observers: tuple[Observer, ...] = ()
        self._begin_afresh()
        _alive.add(self)

    def _begin_afresh(self) -> None:
        """Reset: no thread computes and no thread waits."""
        self._workspace = Workspace(self._n_threads, SERIAL_BELOW)
        self._workspace.profiling = bool(self._observers)
        self._turn = Turn()
        self._visitors: dict[Gate, None] = {}  # in the order in which they came
        self._visited = False  # whether the last turn was that of a visitor

    @property
    def graph(self) -> CausalLM:
        """The model. Raises `ClosedError` after `close`."""
        if self._graph is None:
            raise ClosedError("the model is closed")
        return self._graph

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._graph is None

    def close(self) -> None:
        """Wait for a running pass, then release the weights. Closing twice is fine."""
        if not self.closed:
            self.exclusively(self._close)

    def _close(self) -> None:
        self._graph = None

    def exclusively(self, work: Callable[[], Kept]) -> Kept:
        """Call `work` while no other thread computes with this model, and return its result. A
        thread that computes for others hands over after its current pass.

        Raises
        ------
        SessionBusyError
            If this thread itself is computing, because a callback or a signal handler cannot wait
            for it.
        ClosedError
        """
        self._refuse_nesting()
        gate = Gate()
        self._visitors[gate] = None
        try:
            if self._visited and self._let_members_go_first():
                gate.wait()
            while True:
                with self._turn as mine:
                    if mine:
                        _ = self.graph
                        self._tidy()
                        self._visited = True
                        return work()
                gate.wait()
        finally:
            self._visitors.pop(gate, None)
            self._hand_over()

    def last_logits(self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag) -> Float32:
        """Append `ids` (at least one) to the cache; logits after the last: float32 (vocab_size,).

        Raises
        ------
        ContextOverflowError, CacheBudgetError, SessionBusyError, ClosedError
        CancelledError
            If `cancel` is set during the pass.
        """

        def work() -> Float32:
            last = self._append(cache, ids, cancel)[-1][-1:]
            logits: Float32 = self.exclusively(lambda: self._logits(last, cancel))[0]
            return logits

        return self._in_whole(cache, work)

    def all_logits(self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag) -> Float32:
        """Like `last_logits`, but after each id: float32 (len(ids), vocab_size)."""
        return self._in_whole(
            cache, lambda: np.concatenate(list(self.blocks_of_logits(cache, ids, cancel)))
        )

    def blocks_of_logits(
        self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag
    ) -> Iterator[Float32]:
        """Like `all_logits`, but in blocks float32 (<= 64, vocab_size). Only for a cache that
        nobody else uses, and that is not used after an error."""
        hidden = np.concatenate(self._append(cache, ids, cancel))
        for start in range(0, len(hidden), HEAD_TOKENS):
            rows = hidden[start : start + HEAD_TOKENS]
            yield self.logits(rows, cancel)

    def logits(self, hidden: Float32, cancel: CancelFlag) -> Float32:
        """Final norm and head: float32 (n, vocab_size), for hidden states float32 (n,
        hidden_size)."""
        return self.exclusively(lambda: self._logits(hidden, cancel))

    def extend(self, parts: Sequence[Part], cancel: CancelFlag) -> list[Float32]:
        """One pass that computes ids in several caches. Gives the hidden states of each part,
        float32 (len(ids), hidden_size), and leaves it to the caller to set the lengths of caches.
        If the budget has no room for all parts, only the first ones are computed, at least one.

        Successive parts may have the same cache. They are computed one after the other, and each
        overwrites what the ones before it left from its position on.

        Raises
        ------
        ContextOverflowError, CacheBudgetError, SessionBusyError, ClosedError, CancelledError
        """
        return self.exclusively(lambda: self._extend(parts, cancel))

    def _in_whole(self, cache: KVCache, work: Callable[[], Kept]) -> Kept:
        """Call `work` and return its result. After an error or Ctrl-C, the cache is as it was."""
        with cache.claim():
            before = cache.length
            try:
                return work()
            except BaseException:
                cache.length = before  # before any call, because a second Ctrl-C may come with one
                cache.forget_from(before)
                raise

    def _append(self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag) -> list[Float32]:
        """Hidden states of `ids`, in passes of PASS_TOKENS. The turn is given up between passes, so
        that other sequences need not wait for a whole prompt."""
        tokens = np.asarray(ids, np.int64)
        hidden: list[Float32] = []
        for start in range(0, len(tokens), PASS_TOKENS):
            part = tokens[start : start + PASS_TOKENS]
            hidden += self.extend([(cache, cache.length, part)], cancel)
            cache.length += len(part)
        return hidden

    def _extend(self, parts: Sequence[Part], cancel: CancelFlag) -> list[Float32]:
        count = 0
        for cache, position, tokens in parts:
            try:
                self.make_room(cache, position + len(tokens))
            except CacheBudgetError:
                if not count:
                    raise
                break
            count += 1
        # only now, because parts of one cache must have the same table
        segments: list[Segment] = [(len(ids), at, cache.table) for cache, at, ids in parts[:count]]
        together = np.concatenate([tokens for *_, tokens in parts[:count]])
        self._workspace.use_cancel_flag(cancel)
        layout = parts[0][0].layout
        hidden = self._model.hidden_states(together, segments, layout, self._workspace)
        _refuse_unfinished(cancel)
        return np.split(hidden, np.cumsum([rows for rows, _, _ in segments])[:-1])

    def _logits(self, hidden: Float32, cancel: CancelFlag) -> Float32:
        self._workspace.use_cancel_flag(cancel)  # another pass had its own meanwhile
        logits = self._model.logits(hidden, self._workspace)
        _refuse_unfinished(cancel)
        return logits

    def make_room(self, cache: KVCache, positions: int) -> None:
        """Make room in a cache, for the thread that has the turn. Raises ContextOverflowError and
        CacheBudgetError."""
        raise NotImplementedError

    def observe(self, observer: Observer) -> None:
        """Report every computation to `observer` from now on."""
        self._observers = (*self._observers, observer)
        self._workspace.profiling = True

    def ignore(self, observer: Observer) -> None:
        """Report nothing more to `observer`."""
        self._observers = tuple(other for other in self._observers if other is not observer)
        self._workspace.profiling = bool(self._observers)

    @property
    def _model(self) -> CausalLM:
        """The graph that passes call: wrapped, if there are observers. Raises ClosedError, and
        CheckpointChangedError if a file was overwritten that it reads."""
        for watch in self.watches:
            watch.check()
        return ObservedGraph(self.graph, self._observers) if self._observers else self.graph

    @property
    def computes_here(self) -> bool:
        """Whether it is the calling thread that computes: a callback or a signal handler asks."""
        return self._turn.mine

    def _refuse_nesting(self) -> None:
        if self.computes_here:
            raise SessionBusyError(
                "this thread is computing; a callback or signal handler cannot ask for more"
            )

    def _tidy(self) -> None:
        """Called between two passes by the thread that has the turn."""

    def _let_members_go_first(self) -> bool:
        """Wake a thread that waits for a pass of its own sequence instead of for the turn. Returns
        whether there is one."""
        return False

    def _next_gate(self) -> Gate | None:
        """The gate of the next thread that wants to compute."""
        return next(iter(list(self._visitors)), None)

    def _hand_over(self) -> None:
        """Wake the thread that computes next. libgomp keeps a team of workers for each calling
        thread. A thread that hands over to another ends its team, and so does every thread other
        than the main one when it is done."""
        gate = self._next_gate()
        if gate is not None:
            gate.open()
        if gate is not None or threading.current_thread() is not threading.main_thread():
            release_team()

    def _after_fork(self) -> None:
        # The thread that was computing may not exist in the child.
        self._begin_afresh()


def _refuse_unfinished(cancel: CancelFlag) -> None:
    if cancel[0]:
        raise CancelledError("the pass was cancelled; the cache is as it was before it")


_alive: weakref.WeakSet[Compute] = weakref.WeakSet()


def _reset_all() -> None:
    for each in list(_alive):
        each._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
