"""Memory for keys and values in blocks of 256 positions, within one budget."""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from ..kernels.memory import resident_bytes, zeros

__all__ = ["Block", "BlockPool", "PoolFullError", "Table", "resident_cache_bytes"]


SPARE_BLOCKS = 4
"""Free blocks that are kept at most, to be used again, because the first touch of new memory costs
time (measured in a virtual machine: some 25 ms for 20 MB)."""

MANY_TABLES = 64
"""Tables among which those that were dropped are not looked for."""


def resident_cache_bytes(layout: KVLayout, positions: int) -> int:
    """Memory that the keys and values of a sequence take: whole blocks, each of whole pages."""
    return -(-positions // BLOCK_POSITIONS) * resident_bytes(layout.block_bytes)


class PoolFullError(Exception):
    """Blocks that are in use take up the whole budget. Never leaves the engine."""


class Block:
    """256 positions in all layers.

    Attributes
    ----------
    memory : uint8 array of shape (block_bytes,)
    address : int
    users : int
        Number of caches that have it in their table.
    kept : bool
        Whether an index of prefixes has it. If so, its contents must not change.
    """

    __slots__ = ("address", "kept", "memory", "users")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.memory = memory
        self.address: int = memory.ctypes.data
        self.users = 0
        self.kept = False

    @property
    def shared(self) -> bool:
        """Whether somebody else relies on its contents."""
        return self.users > 1 or self.kept


class Table(Protocol):
    """An object that has blocks, and takes more."""

    blocks: list[Block]
    taken: list[Block]


class BlockPool:
    """Gives out blocks and takes them back. One thread at a time may use it, but any thread may
    call `register`.

    The number of users of a block goes up before a table changes, and down after it. So a block in
    use never looks free, wherever Ctrl-C comes. An interrupt, or a table that is dropped without
    giving back its blocks, leaves numbers that are too high. They are counted again when the budget
    is used up. There are no finalisers and no weak sets, because Python would swallow a Ctrl-C that
    comes while these run.

    Parameters
    ----------
    layout : KVLayout
    budget : int
        Bytes of all blocks together; at least those of one block.
    """

    def __init__(self, layout: KVLayout, budget: int) -> None:
        self.layout = layout
        self.budget = budget
        self.capacity = max(1, budget // layout.block_bytes)
        self.evict: Callable[[], Block | None] = lambda: None
        """Gives up the block that has been unused for longest, if there is one."""
        self.kept: Callable[[], Iterable[Block]] = tuple
        """Blocks that the index of prefixes has."""
        self.pinned: Block | None = None
        """A block that must not be evicted now."""
        self._blocks = 0
        self._spare: list[Block] = []
        self._tables: dict[int, weakref.ref[Table]] = {}  # some may have been dropped
        self._many = MANY_TABLES
        self._numbers = itertools.count()  # ids would come again

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks. May be read from any thread."""
        users, kept = self._survey()
        count = len({*users, *map(id, kept)}) + len(self._spare)
        return count * self.layout.block_bytes

    def register(self, table: Table) -> weakref.ref[Table]:
        """The blocks of this table count as used as long as the reference is alive; from any
        thread."""
        reference = self._tables[next(self._numbers)] = weakref.ref(table)
        if len(self._tables) > self._many:  # seldom, because each time looks at all of them
            self._many = MANY_TABLES + 2 * sum(1 for _ in self._alive())
        return reference

    def take(self) -> Block:
        """A block with one user. It contains arbitrary finite numbers.

        Raises
        ------
        PoolFullError
            If the budget is used up and nothing can be evicted.
        """
        if self._blocks >= self.capacity:
            self.recount()
        if self._blocks < self.capacity and self._spare:
            block = self._spare.pop()
            self._blocks += 1
        elif self._blocks < self.capacity:
            # zeros, because attention also computes unused positions, before it drops them
            block = Block(zeros(self.layout.block_bytes))
            self._blocks += 1
        else:
            evicted = self.evict()
            if evicted is None:
                raise PoolFullError
            block = evicted
        block.users = 1
        return block

    def copy(self, block: Block) -> Block:
        """A new block with the same contents. Raises `PoolFullError` like `take`."""
        self.pinned = block  # must not be evicted to make room for its copy
        try:
            own = self.take()
        finally:
            self.pinned = None
        own.memory[:] = block.memory
        return own

    def give_back(self, block: Block) -> None:
        """Count one user less. Without users the block is free, unless it is kept."""
        block.users -= 1
        self._free(block)

    def dropped(self, block: Block) -> None:
        """The index of prefixes no longer keeps the block."""
        block.kept = False
        self._free(block)

    def clear(self) -> None:
        """Free the memory of spare blocks."""
        self._spare.clear()

    def _free(self, block: Block) -> None:
        if block.users == 0 and not block.kept:
            self._blocks -= 1
            if len(self._spare) < SPARE_BLOCKS and self._blocks + len(self._spare) < self.capacity:
                self._spare.append(block)

    def recount(self) -> None:
        """Count blocks and users again."""
        users, kept = self._survey()
        for block in kept:
            block.users = users[id(block)]
        self._blocks = len({*users, *map(id, kept)})

    def _survey(self) -> tuple[Counter[int], list[Block]]:
        """(users of blocks by id, from the tables that are alive; blocks that are kept)."""
        users: Counter[int] = Counter()
        for table in self._alive():
            users.update(id(block) for block in (*table.blocks, *table.taken))
        return users, list(self.kept())

    def _alive(self) -> Iterator[Table]:
        """The tables that have not been dropped. Forgets the others."""
        for key, reference in list(self._tables.items()):
            table = reference()
            if table is None:
                self._tables.pop(key, None)
            else:
                yield table
