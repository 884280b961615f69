"""Memory for keys and values in blocks of 256 positions, within one budget."""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..interfaces.kv_layout import KVLayout
from ..kernels.packing import aligned_empty

__all__ = ["Block", "BlockPool", "PoolFullError", "Table"]


class PoolFullError(Exception):
    """The budget is used up by blocks that are in use. Never leaves the engine."""


class Block:
    """256 positions in all layers.

    Attributes
    ----------
    memory : uint8 array of shape (block_bytes,)
    address : int
    users : int
        Caches that have it in their table.
    kept : bool
        Whether an index of prefixes has it: then what is in it may not change.
    """

    __slots__ = ("address", "kept", "memory", "users")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.memory = memory
        self.address: int = memory.ctypes.data
        self.users = 0
        self.kept = False

    @property
    def shared(self) -> bool:
        """Whether somebody else relies on what is in it."""
        return self.users > 1 or self.kept


class Table(Protocol):
    """Whatever has blocks, and takes more."""

    blocks: list[Block]
    taken: list[Block]


class BlockPool:
    """Gives out blocks and takes them back. By one thread at a time, but for `register`.

    Who uses a block is counted up before and down after a table changes, so that a block in use
    never looks free, wherever Ctrl-C comes between. A table that is dropped without giving back
    its blocks, or an interrupt, leaves counts that are too high: they are counted anew when the
    budget is used up. There are no finalisers and no weak sets, because Python would swallow a
    Ctrl-C that comes while these run.

    Parameters
    ----------
    layout : KVLayout
    budget : int
        Bytes of all blocks together, at least one block.
    """

    def __init__(self, layout: KVLayout, budget: int) -> None:
        self.layout = layout
        self.budget = budget
        self.capacity = max(1, budget // layout.block_bytes)
        self.evict: Callable[[], Block | None] = lambda: None
        """Gives up a block that only waits to be used again, the longest unused one."""
        self.kept: Callable[[], Iterable[Block]] = tuple
        """Blocks that the index of prefixes has."""
        self.pinned: Block | None = None
        """What may not be evicted now."""
        self._blocks = 0
        self._tables: dict[int, weakref.ref[Table]] = {}  # some may have been dropped
        self._numbers = itertools.count()  # ids would come again

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks there are; from any thread."""
        users, kept = self._survey()
        return len({*users, *map(id, kept)}) * self.layout.block_bytes

    def register(self, table: Table) -> weakref.ref[Table]:
        """The blocks of this table count as used as long as the reference is alive; from any
        thread."""
        reference = self._tables[next(self._numbers)] = weakref.ref(table)
        return reference

    def take(self) -> Block:
        """A block with one user. What is in it is arbitrary, but finite numbers.

        Raises
        ------
        PoolFullError
            If the budget is used up and nothing can be evicted.
        """
        if self._blocks >= self.capacity:
            self.recount()
        if self._blocks < self.capacity:
            memory = aligned_empty(self.layout.block_bytes)
            memory.fill(0)  # attention computes on unused positions before it drops them
            block = Block(memory)
            self._blocks += 1
        else:
            evicted = self.evict()
            if evicted is None:
                raise PoolFullError
            block = evicted
        block.users = 1
        return block

    def copy(self, block: Block) -> Block:
        """A block of one's own with the same content. Raises `PoolFullError` as `take`."""
        self.pinned = block  # must not be evicted to make room for its copy
        try:
            own = self.take()
        finally:
            self.pinned = None
        own.memory[:] = block.memory
        return own

    def give_back(self, block: Block) -> None:
        """One user less; without users the memory is freed, unless the block is kept."""
        block.users -= 1
        if block.users == 0 and not block.kept:
            self._blocks -= 1

    def dropped(self, block: Block) -> None:
        """The index of prefixes does not keep it any more."""
        block.kept = False
        if block.users == 0:
            self._blocks -= 1

    def recount(self) -> None:
        """Count blocks and users anew."""
        users, kept = self._survey()
        for block in kept:
            block.users = users[id(block)]
        self._blocks = len({*users, *map(id, kept)})

    def _survey(self) -> tuple[Counter[int], list[Block]]:
        """(users of blocks by id, from the tables that are alive; blocks that are kept)."""
        users: Counter[int] = Counter()
        for key, reference in list(self._tables.items()):
            table = reference()
            if table is None:
                self._tables.pop(key, None)
            else:
                users.update(id(block) for block in (*table.blocks, *table.taken))
        return users, list(self.kept())
