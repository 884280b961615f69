"""A sequence that branches within one call: the bits of each path are those that it has alone."""

from __future__ import annotations

import numpy as np
import pytest

from .block_cache import BlockCache, BlockLayout, attend, random_qkv
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

SEGMENTS = [
    # rows, position: a trunk, and paths that leave it within and at the end of a block, before its
    # end, in the middle of another path, and after nothing but one row
    [(250, 0), (1, 250), (3, 250), (20, 250), (2, 261), (1, 200)],
    [(256, 0), (2, 256), (1, 256), (260, 256), (1, 300)],
    [(1, 0), (1, 1), (1, 1), (5, 1), (1, 3)],
]


def paths(segments: list[tuple[int, int]]) -> list[list[int]]:
    """The rows of each segment with all that it sees before them, by position."""
    seen: list[int] = []
    found, first = [], 0
    for rows, position in segments:
        seen = [*seen[:position], *range(first, first + rows)]
        found.append(seen)
        first += rows
    return found


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_each_path_is_what_it_is_alone(
    kind: str, segments: list[tuple[int, int]], n_threads: int, rng: np.random.Generator
) -> None:
    layout, heads = BlockLayout(kind, kv_heads=3, head_dim=18), 9
    total = sum(rows for rows, _ in segments)
    qkv = random_qkv(rng, total, layout, heads)
    cache = BlockCache(layout, 600)
    together = attend(qkv, [(*each, cache) for each in segments], heads, n_threads=n_threads)
    first = 0
    for (rows, _), path in zip(segments, paths(segments), strict=True):
        alone = BlockCache(layout, len(path))
        out = attend(qkv[path], [(len(path), 0, alone)], heads)
        assert_same_bits(together[first : first + rows], out[-rows:])
        first += rows
    # what is left is the last path, and beyond it what the others left
    last = paths(segments)[-1]
    for one, other in zip(cache.stored(len(last)), alone.stored(len(last)), strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("n_threads", [1, 4])
def test_several_sequences_branch_beside_others(n_threads: int, rng: np.random.Generator) -> None:
    """With groups of more heads than a tile has, and segments that are split."""
    layout, heads = BlockLayout("bfloat16", kv_heads=2, head_dim=16), 2 * 33
    whole = [[(270, 0), (1, 270), (2, 268)], [(7, 0)], [(2, 0), (4, 2), (4, 2)], [(300, 0), (1, 5)]]
    caches = [BlockCache(layout, 512) for _ in whole]
    qkv = [random_qkv(rng, sum(rows for rows, _ in each), layout, heads) for each in whole]
    sequences = [
        (*each, cache) for parts, cache in zip(whole, caches, strict=True) for each in parts
    ]
    together = attend(np.concatenate(qkv), sequences, heads, n_threads=n_threads)
    first = 0
    for parts, rows in zip(whole, qkv, strict=True):
        cache = BlockCache(layout, 512)
        at = 0
        for count, position in parts:
            out = attend(rows[at : at + count], [(count, position, cache)], heads)
            assert_same_bits(together[first : first + count], out)
            at, first = at + count, first + count
