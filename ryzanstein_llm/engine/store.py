"""Which sequence has which blocks: blocks kept for its beginning, new blocks, and who gives way."""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..errors import CacheBudgetError
from ..interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from .blocks import BlockPool, PoolFullError
from .kv_cache import KVCache
from .prefix import PrefixIndex
from .sequence import Sequence

__all__ = ["Store"]


class _Admitted(NamedTuple):
    """A sequence that may have blocks. If it is dropped without `leave`, its cache and tokens are
    still here, and `tidy` takes its blocks: without a finaliser, in which Python would swallow a
    Ctrl-C."""

    sequence: weakref.ref[Sequence]
    cache: KVCache
    tokens: list[int]


class Store:
    """Keys and values of all sequences of a model. Only the thread that has the turn may use it,
    but any thread may call `leave` and `held_bytes`.

    Parameters
    ----------
    layout : KVLayout
    context_length : int
        The largest number of positions of a sequence.
    budget : int
        Bytes of all blocks together, including those that only wait to be used again.
    """

    def __init__(self, layout: KVLayout, context_length: int, budget: int) -> None:
        self.layout, self.context_length = layout, context_length
        self.pool = BlockPool(layout, budget)
        self._prefixes = PrefixIndex(self.pool)
        self._left: deque[Sequence] = deque()  # nobody waits for them any more
        self._admitted: dict[int, _Admitted] = {}  # by arrival

    @property
    def capacity(self) -> int:
        """The largest number of positions of a sequence: the context, or less if the budget is too
        small for that."""
        return min(self.context_length, self.pool.capacity * BLOCK_POSITIONS)

    def new_cache(self) -> KVCache:
        """An empty cache."""
        return KVCache(self.pool, self.context_length)

    def fill(self, cache: KVCache, tokens: list[int]) -> None:
        """Give an empty cache the blocks that are kept for the beginning of `tokens`."""
        # no room to copy a block: its positions are computed again
        with contextlib.suppress(PoolFullError):
            self._prefixes.fill(cache, tokens)

    def keep(self, cache: KVCache, tokens: list[int]) -> None:
        """Keep what a cache has of `tokens` for others, also its last block that is not full."""
        self._prefixes.keep(cache, tokens, tail=True)

    def shared(self, tokens: list[int]) -> KVCache:
        """A cache with all that is kept for the beginning of `tokens`, to be read only."""
        cache = self.new_cache()
        self._prefixes.fill(cache, tokens, own=False)
        return cache

    def fork(self, tokens: list[int]) -> None:
        """Several sequences will go on from these tokens."""
        self._prefixes.fork(tokens)

    def refuse(self, positions: int) -> CacheBudgetError:
        """The error for a number of positions that does not fit the budget."""
        blocks = -(-positions // BLOCK_POSITIONS)
        return CacheBudgetError(blocks * self.layout.block_bytes, self.pool.budget)

    def admit(self, sequence: Sequence) -> None:
        """Give a sequence the blocks that are kept for its beginning."""
        if sequence.cache.pool is not self.pool or not sequence.cache.counted:
            sequence.cache = self.new_cache()  # after a fork, or in a finaliser
        # before it has blocks
        self._admitted[sequence.arrival] = _Admitted(
            weakref.ref(sequence), sequence.cache, sequence.tokens
        )
        self.fill(sequence.cache, sequence.tokens[:-1])
        if not sequence.chosen_tokens:
            sequence.reused_tokens = min(sequence.cache.length, sequence.prompt_tokens)
        sequence.admitted = True

    def shift(self, sequence: Sequence) -> None:
        """The context of a sequence is full: it begins again with the newer half of its tokens."""
        self._prefixes.keep(sequence.cache, sequence.tokens, tail=False)
        self._empty(sequence)
        sequence.shift()

    def share(self, sequence: Sequence) -> None:
        """Let others have what this sequence has computed so far, also its last block that is not
        full. The sequence itself copies that block before it writes to it again."""
        if sequence.cache.counted:
            self._prefixes.keep(sequence.cache, sequence.tokens, tail=True)

    def make_room(self, sequence: Sequence, rows: int, members: list[Sequence]) -> bool:
        """Make room for more rows of a sequence. Returns whether there is room. Sequences that
        nobody waits for lose their blocks first, then those of `members` that came later, the last
        one before the others. A sequence that cannot fit even then fails.

        Parameters
        ----------
        members : list of Sequence
            All sequences that somebody waits for, in the order in which they came.
        """
        cache = sequence.cache
        cache.free_from(min(cache.length, len(sequence.tokens) - 1))
        while True:
            try:
                cache.reserve(cache.length + rows)
                return True
            except PoolFullError:
                later = members[members.index(sequence) + 1 :]
                if self._take_from_idle(members) or self._take_from(reversed(later)):
                    continue
                if not any(each.cache.blocks for each in members if each is not sequence):
                    sequence.fail(self.refuse(cache.length + rows))
                return False
            except MemoryError as error:
                sequence.fail(error)
                return False

    def reserve(self, cache: KVCache, positions: int, waiting: Collection[Sequence]) -> None:
        """Make room in a cache of the caller. Sequences that are not in `waiting` lose their blocks
        for that.

        Raises
        ------
        ContextOverflowError, CacheBudgetError
        """
        while True:
            try:
                cache.reserve(positions)
                return
            except PoolFullError:
                if not self._take_from_idle(waiting):
                    raise self.refuse(positions) from None

    def advance(self, sequence: Sequence, rows: int) -> None:
        """`rows` more positions are filled. Blocks that are full now can be shared."""
        cache = sequence.cache
        before, cache.length = cache.length, cache.length + rows
        if before // BLOCK_POSITIONS != cache.length // BLOCK_POSITIONS:
            self._prefixes.keep(cache, sequence.tokens, tail=False)

    def leave(self, sequence: Sequence) -> None:
        """Nobody will wait for this sequence any more, and `tidy` may take its blocks. May be
        called from any thread."""
        self._left.append(sequence)

    def tidy(self) -> None:
        """Take the blocks of sequences that were left or dropped, and keep those that others may
        use."""
        while self._left:
            sequence = self._left.popleft()
            if sequence.keep and sequence.cache.counted:
                self._prefixes.keep(sequence.cache, sequence.tokens, tail=True)
            self._empty(sequence)
        self._take_from_dropped()

    def forget(self, tokens: list[int]) -> None:
        """Free the last block of a sequence that will not be continued, if nobody else uses it."""
        self._prefixes.forget(tokens)

    def clear(self) -> None:
        """Free all blocks that only wait to be used again."""
        self._prefixes.clear()
        self.pool.clear()

    def close(self) -> None:
        """Free everything. No sequence may be computed after that."""
        for sequence in [*self._alive(), *self._left]:
            self._empty(sequence)
            sequence.keep = False
        self._take_from_dropped()
        self.clear()

    def held_bytes(self, tokens: list[int]) -> int:
        """Bytes that are kept for the beginning of `tokens`. May be called from any thread."""
        return self._prefixes.held(tokens) * self.layout.block_bytes

    def abandon(self) -> None:
        """All sequences begin again, in another store."""
        for sequence in self._alive():
            sequence.admitted = False

    def _take_from_idle(self, waiting: Collection[Sequence]) -> bool:
        """Take the blocks of a sequence that nobody waits for. Returns whether there was one."""
        return self._take_from_dropped() or self._take_from(
            each for each in self._alive() if each not in waiting
        )

    def _take_from(self, victims: Iterable[Sequence]) -> bool:
        """Take the blocks of the first of these that has any, and keep those that others may use.
        Returns whether there was one."""
        for victim in victims:
            if victim.cache.blocks:
                self._prefixes.keep(victim.cache, victim.tokens, tail=True)
                self._empty(victim)
                return True
        return False

    def _take_from_dropped(self) -> bool:
        """Take the blocks of all sequences that were dropped, and keep those that others may use.
        Returns whether there were any."""
        found = False
        for arrival, admitted in list(self._admitted.items()):
            if admitted.sequence() is None:
                found |= bool(admitted.cache.blocks)
                self._prefixes.keep(admitted.cache, admitted.tokens, tail=True)
                admitted.cache.free_from(0)
                self._admitted.pop(arrival, None)
        return found

    def _alive(self) -> list[Sequence]:
        """Sequences that may have blocks."""
        found = [admitted.sequence() for admitted in list(self._admitted.values())]
        return [sequence for sequence in found if sequence is not None]

    def _empty(self, sequence: Sequence) -> None:
        if sequence.cache.counted:
            sequence.cache.free_from(0)
        else:
            sequence.cache = self.new_cache()
        sequence.admitted = False
        self._admitted.pop(sequence.arrival, None)
