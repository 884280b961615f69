"""The key/value cache of one sequence: a table of blocks."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ClosedError, ContextOverflowError, SessionBusyError
from ..errors.request import LONGER_CONTEXT
from ..interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from ..notebook import as_html
from ..validation import check_int
from .blocks import Block, BlockPool

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of the tokens of a sequence.

    Made by `BitNetModel.new_cache()`. Blocks are taken from the model's pool when they are needed.

    Attributes
    ----------
    length : int
        Number of positions that are filled.
    context_length : int
        The largest number of positions.
    layout : KVLayout
    table : uint64 array of shape (blocks,)
        Addresses of the blocks.
    """

    def __init__(self, pool: BlockPool, context_length: int) -> None:
        self.pool = pool
        self.context_length = context_length
        self.length = 0
        self.blocks: list[Block] = []
        self.taken: list[Block] = []  # new blocks, while more are reserved
        self.table: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._lock = threading.Lock()
        self._reference = pool.register(self)

    @property
    def layout(self) -> KVLayout:
        """Offsets and sizes in a block."""
        return self.pool.layout

    @property
    def counted(self) -> bool:
        """Whether its blocks count as used. Not after the collector found it in a cycle, though a
        finaliser brought it back: then they may belong to others by now."""
        return self._reference() is self

    def claim(self) -> threading.Lock:
        """For `with cache.claim():` around a pass, because its kernels use the blocks' addresses.

        Raises
        ------
        SessionBusyError
            If another thread is using the cache.
        """
        if self._lock.locked():
            raise SessionBusyError("the cache is in use by another thread; give each its own")
        return self._lock  # two that come at the same moment take turns

    def reserve(self, positions: int) -> None:
        """Make room for `positions` in all, and keep what is there. If the next position is in a
        block that others use too, that block is copied, so that this cache can write to it.

        Raises
        ------
        ContextOverflowError
            If that is more than the context length.
        ClosedError
            If a finaliser brought it back.
        PoolFullError
            If the pool has no block left. Nothing has changed then.
        """
        if positions > self.context_length:
            reason = f"the cache has {self.length}; truncate it, or {LONGER_CONTEXT}"
            raise ContextOverflowError(positions, self.context_length, reason)
        if not self.counted:
            raise ClosedError("the cache was dropped, and a finaliser cannot use it any more")
        last = self.length // BLOCK_POSITIONS
        partly_filled = self.length % BLOCK_POSITIONS > 0 and positions > self.length
        if len(self.blocks) * BLOCK_POSITIONS >= positions and not (
            partly_filled and self.blocks[last].shared
        ):
            return
        blocks = list(self.blocks)
        taken = self.taken = list[Block]()
        replaced: Block | None = None
        try:
            if partly_filled and blocks[last].shared:
                taken.append(self.pool.copy(blocks[last]))
                replaced, blocks[last] = blocks[last], taken[-1]
            while len(blocks) * BLOCK_POSITIONS < positions:
                taken.append(self.pool.take())
                blocks.append(taken[-1])
        except BaseException:
            self.taken = []
            for block in taken:
                self.pool.give_back(block)
            raise
        if taken:
            self.use(blocks)
            self.taken = []
        if replaced is not None:
            self.pool.give_back(replaced)

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on, and give back their blocks.

        Raises
        ------
        InvalidParameterError
            If `length` is negative or more than the positions that are filled.
        SessionBusyError
            If a pass is using the cache.
        """
        with self.claim():
            self.forget_from(check_int("length", length, 0, self.length))

    def forget_from(self, length: int) -> None:
        """Forget all positions from `length` on. For a thread that has claimed the cache, but does
        not have the turn: the pool finds the free blocks when it needs them."""
        self._drop(length)

    def free_from(self, length: int) -> None:
        """Forget all positions from `length` on, and give their blocks back to the pool. For the
        thread that has the turn."""
        for block in self._drop(length):
            self.pool.give_back(block)

    def _drop(self, length: int) -> list[Block]:
        """Take blocks that `length` positions do not need out of the table, and return them."""
        self.taken = []  # of a `reserve` that was interrupted
        kept = -(-length // BLOCK_POSITIONS)
        dropped = self.blocks[kept:]
        self.length = length
        if dropped:
            self.use(self.blocks[:kept])
        return dropped

    def use(self, blocks: list[Block]) -> None:
        """Replace the blocks of the cache. The caller counts the users of the blocks."""
        table = np.array([block.address for block in blocks], np.uint64)
        self.blocks, self.table = blocks, table

    @property
    def nbytes(self) -> int:
        """Bytes of its blocks, including shared ones."""
        return len(self.blocks) * self.layout.block_bytes

    def __len__(self) -> int:
        return self.length

    def _facts(self) -> dict[str, str]:
        return {
            "positions": f"{self.length} of {self.context_length}",
            "kind": self.layout.kind,
            "memory": f"{self.nbytes / 1e6:.1f} MB",
        }

    def __repr__(self) -> str:
        return "KVCache({positions} positions, {kind}, {memory})".format(**self._facts())

    def _repr_html_(self) -> str:
        return as_html("KVCache", self._facts())

    def __reduce__(self) -> Any:
        raise TypeError("a KVCache holds addresses and cannot be pickled or copied")
