"""Keys and values that are kept for later sequences that begin with the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..interfaces.kv_layout import BLOCK_POSITIONS
from .blocks import Block, BlockPool
from .kv_cache import KVCache

__all__ = ["PrefixIndex"]

UNUSED_TAILS = 8
"""The largest number of unused blocks that are not full (ends of sequences)."""


@dataclass(eq=False)
class _Node:
    """The ids of one block, after those of its parents.

    Attributes
    ----------
    ids : int32 array of at most 256
        The ids whose keys and values are in the block, from its first position on.
    used : int
        When it was last used; larger is later.
    forked : bool
        Whether several sequences go on from here.
    """

    ids: NDArray[np.int32]
    block: Block | None
    parent: _Node | None
    used: int = 0
    forked: bool = False
    children: dict[bytes, _Node] = field(default_factory=dict)

    @property
    def is_tail(self) -> bool:
        return len(self.ids) < BLOCK_POSITIONS


class PrefixIndex:
    """A tree of blocks by the ids that they stand for.

    Full blocks are shared by all sequences that begin with the same ids. If only the beginning of a
    block fits a sequence, or the block is not full, it is copied. A block that nobody else needs is
    used without copying.

    Parameters
    ----------
    pool : BlockPool
    """

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._root = _Node(np.empty(0, np.int32), None, None)
        self._nodes: set[_Node] = set()
        self._clock = 0
        pool.evict = self._evict
        pool.kept = self._blocks

    def __len__(self) -> int:
        """Number of blocks that are kept."""
        return len(self._nodes)

    def fill(self, cache: KVCache, tokens: Sequence[int], *, own: bool = True) -> int:
        """Fill an empty cache with the blocks that are kept for the beginning of `tokens`. Returns
        the number of positions. Unless `own`, the cache shares also a last block that is not full.
        Raises `PoolFullError` if a block has to be copied and there is no room."""
        ids = np.asarray(tokens, np.int32)
        node, blocks = self._root, list[Block]()
        self._clock += 1
        while True:
            start = len(blocks) * BLOCK_POSITIONS
            child = node.children.get(ids[start : start + BLOCK_POSITIONS].tobytes())
            if child is None or child.is_tail:
                break
            node = child
            node.used = self._clock
            assert node.block is not None
            blocks.append(node.block)
        for block in blocks:
            block.users += 1
        cache.use(blocks)
        cache.length = start
        closest, common = self._closest(node, ids[start:])
        if closest is not None:
            closest.used = self._clock
            assert closest.block is not None
            if not own:
                closest.block.users += 1
            cache.use([*blocks, self._own(closest, common) if own else closest.block])
            cache.length = start + common
        return cache.length

    def keep(self, cache: KVCache, tokens: Sequence[int], *, tail: bool) -> None:
        """Keep the full blocks of a cache, which stand for the first `cache.length` of `tokens`,
        and with `tail` also a last block that is not full. If a block for the same ids is kept
        already, the cache uses that one from now on."""
        ids = np.asarray(tokens[: cache.length], np.int32)
        blocks, node = list(cache.blocks), self._root
        doubles: list[Block] = []
        self._clock += 1
        for index, start in enumerate(range(0, len(ids), BLOCK_POSITIONS)):
            part = ids[start : start + BLOCK_POSITIONS]
            if len(part) < BLOCK_POSITIONS and not tail:
                break
            child = node.children.get(part.tobytes())
            if child is None and blocks[index].kept:
                break  # the sequence was cut within this block, which is kept with more ids
            if child is None:
                child = self._add(node, part, blocks[index])
            elif child.block is not blocks[index]:
                assert child.block is not None
                child.block.users += 1
                doubles.append(blocks[index])
                blocks[index] = child.block
            child.used = self._clock
            node = child
        cache.use(blocks)
        for block in doubles:
            self._pool.give_back(block)
        self._limit_tails()

    def fork(self, tokens: Sequence[int]) -> None:
        """The last block of these tokens will be used more than once: from now on, it is copied and
        neither taken nor forgotten."""
        ids, node, count = np.asarray(tokens, np.int32), self._root, 0
        while (child := node.children.get(_part(ids, count).tobytes())) and not child.is_tail:
            node, count = child, count + 1
        closest, _ = self._closest(node, ids[count * BLOCK_POSITIONS :])
        if closest is not None:
            closest.forked = True

    def forget(self, tokens: Sequence[int]) -> None:
        """Free the last block of these tokens if it is not full and nobody uses it."""
        node, ids = self._root, np.asarray(tokens, np.int32)
        for start in range(0, len(ids), BLOCK_POSITIONS):
            part = ids[start : start + BLOCK_POSITIONS]
            child = node.children.get(part.tobytes())
            if child is None:  # the last tokens may be in no cache
                ends = [
                    tail for tail in self._tails(node) if _common(tail.ids, part) == len(tail.ids)
                ]
                child = max(ends, key=lambda tail: len(tail.ids), default=None)
            if child is None:
                return
            node = child
        free = node.block is not None and not node.block.users
        if node.is_tail and not node.forked and free:
            self._remove(node)

    def held(self, tokens: Sequence[int]) -> int:
        """Number of blocks that are kept for the beginning of these tokens."""
        ids, node, count = np.asarray(tokens, np.int32), self._root, 0
        while (child := node.children.get(_part(ids, count).tobytes())) and not child.is_tail:
            node, count = child, count + 1
        return count + (self._closest(node, ids[count * BLOCK_POSITIONS :])[0] is not None)

    def clear(self) -> None:
        """Free all blocks that nobody uses."""
        self._pool.recount()
        while (node := self._longest_unused()) is not None:
            self._remove(node)

    def _closest(self, node: _Node, ids: NDArray[np.int32]) -> tuple[_Node | None, int]:
        """The child with the longest common beginning with `ids`, and its length."""
        best, most = None, 0
        for child in list(node.children.values()):  # `held` may be called by another thread
            common = _common(child.ids, ids)
            if common > most:
                best, most = child, common
        return best, most

    def _own(self, node: _Node, common: int) -> Block:
        """A block that may be written to, and whose first `common` positions are those of the
        node."""
        block = node.block
        assert block is not None
        whole = node.is_tail and common == len(node.ids)
        if whole and not (block.users or node.children or node.forked):
            block.users = 1
            self._remove(node)
            return block
        return self._pool.copy(block)

    def _add(self, parent: _Node, ids: NDArray[np.int32], block: Block) -> _Node:
        node = _Node(ids.copy(), block, parent)
        block.kept = True
        parent.children[node.ids.tobytes()] = node
        self._nodes.add(node)
        return node

    def _remove(self, node: _Node) -> None:
        assert node.parent is not None
        assert node.block is not None
        del node.parent.children[node.ids.tobytes()]
        self._nodes.discard(node)
        self._pool.dropped(node.block)

    def _evict(self) -> Block | None:
        node = self._longest_unused()
        if node is None:
            return None
        block = node.block
        assert block is not None
        block.users = 1  # so that its memory is not freed
        self._remove(node)
        return block

    def _longest_unused(self) -> _Node | None:
        return min(self._unused(), key=lambda node: node.used, default=None)

    def _unused(self) -> Iterator[_Node]:
        """Nodes that nothing depends on."""
        for node in self._nodes:
            block = node.block
            if block is None or block.users or node.children or block is self._pool.pinned:
                continue
            yield node

    def _tails(self, node: _Node) -> Iterator[_Node]:
        return (child for child in node.children.values() if child.is_tail)

    def _blocks(self) -> list[Block]:
        # a list first: another thread may ask while nodes come and go
        return [node.block for node in list(self._nodes) if node.block is not None]

    def _limit_tails(self) -> None:
        tails = [node for node in self._unused() if node.is_tail]
        for node in sorted(tails, key=lambda node: node.used)[:-UNUSED_TAILS]:
            self._remove(node)


def _part(ids: NDArray[np.int32], index: int) -> NDArray[np.int32]:
    return ids[index * BLOCK_POSITIONS : (index + 1) * BLOCK_POSITIONS]


def _common(first: NDArray[np.int32], second: NDArray[np.int32]) -> int:
    """The length of the common beginning of two arrays."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length
