"""One vector for each of many sequences: their hidden states, pooled.

Several sequences share a pass. At most one is longer than what is left of a pass, and it goes on in
the next one, before the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import CacheBudgetError
from ..kernels.elementwise import add_rms_norms, divided
from .compute import PASS_TOKENS, CancelFlag, Part, new_cancel_flag
from .engine import Engine
from .kv_cache import KVCache

__all__ = ["POOLINGS", "pooled_states"]

Float32 = NDArray[np.float32]

POOLINGS = ("mean", "cls", "last")
"""The mean of all positions, added in ascending order in float32 and then divided; the first
position; the last position."""


def pooled_states(
    engine: Engine,
    sequences: Sequence[Sequence[int]],
    pooling: str,
    at_once: int,
    report: Callable[[int], None],
) -> Float32:
    """A vector for each sequence: float32 (n, hidden_size). Its bits depend on its own ids alone.

    Parameters
    ----------
    sequences
        Ids, at least one of each.
    pooling : one of POOLINGS
    at_once : int >= 1
        The largest number of sequences in a pass.
    report : callable (done)
        Called between passes with the number of finished sequences.

    Raises
    ------
    ContextOverflowError, CacheBudgetError, SessionBusyError, ClosedError
    """
    head, hidden_size = engine.graph.head, engine.graph.config.hidden_size
    out = np.zeros((len(sequences), hidden_size), np.float32)  # first the sums
    # the longest comes first, from the end of the list
    waiting = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    done = 0  # positions of the first one that were computed
    # half of the budget, so that others can generate meanwhile
    slots = max(1, min(at_once, len(sequences), engine.store.pool.capacity // 2))
    caches = [engine.store.new_cache() for _ in range(slots)]
    flag = new_cancel_flag()
    while waiting:
        parts, start, left = [], done, PASS_TOKENS
        for cache, row in zip(caches, reversed(waiting), strict=False):
            if left:
                ids = np.asarray(sequences[row][start : start + left], np.int64)
                parts.append((cache, start, ids))
                start, left = 0, left - len(ids)
        for hidden in _extend(engine, caches, parts, flag):
            row = waiting[-1]
            length = len(sequences[row])
            rows = _counted(hidden, pooling, done, length)
            add_rms_norms(out[row], rows, head.norm, head.eps)
            done += len(hidden)
            caches[0].length = done
            if done == length:
                out[row] = divided(out[row], length if pooling == "mean" else 1)
                waiting.pop()
                done = caches[0].length = 0
                # its blocks are used again, because the first touch of new memory costs time
                caches.append(caches.pop(0))
        report(len(sequences) - len(waiting))

    def give_back() -> None:
        for cache in caches:
            cache.free_from(0)

    engine.exclusively(give_back)
    return out


def _counted(hidden: Float32, pooling: str, done: int, length: int) -> Float32:
    """The rows of hidden states (n, hidden) that count, after `done` positions of `length`."""
    if pooling == "cls":
        return hidden[: 1 if done == 0 else 0]
    if pooling == "last":
        return hidden[length - 1 - done :]
    return hidden


def _extend(
    engine: Engine,
    caches: Sequence[KVCache],
    parts: Sequence[Part],
    cancel: CancelFlag,
) -> list[Float32]:
    """`Engine.extend`. If there is no room, empty caches give up their blocks."""
    try:
        return engine.extend(parts, cancel)
    except CacheBudgetError:
        empty = [cache for cache in caches if cache.length == 0 and cache.blocks]
        if not empty:
            raise
        for cache in empty:
            cache.forget_from(0)
        return engine.extend(parts, cancel)
