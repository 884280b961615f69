"""The same tokens give the same bits, however the work is cut into calls and tasks."""

from __future__ import annotations

import numpy as np
import pytest

from .block_cache import BlockCache, BlockLayout, attend, attend_in_chunks, random_qkv
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

KV_KINDS = ("float32", "bfloat16", "int8")


@pytest.mark.parametrize("kind", KV_KINDS)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(5, 1, 16), (4, 2, 34), (17, 1, 16)])
def test_whole_chunks_and_single_tokens(
    heads: int, kv_heads: int, head_dim: int, kind: str, rng: np.random.Generator
) -> None:
    """Chunks of up to 4 rows are cut by blocks, larger ones by tiles of queries."""
    layout = BlockLayout(kind, kv_heads, head_dim)
    qkv = random_qkv(rng, 530, layout, heads)
    whole = attend_in_chunks(qkv, layout, heads, 530)
    for chunk in (1, 3, 4, 5, 100, 256):
        assert_same_bits(attend_in_chunks(qkv, layout, heads, chunk), whole)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads(n_threads: int, rng: np.random.Generator) -> None:
    for kind in KV_KINDS:
        layout = BlockLayout(kind, kv_heads=2, head_dim=20)
        qkv = random_qkv(rng, 270, layout, 6)
        for chunk in (270, 90, 27):
            one = attend_in_chunks(qkv, layout, 6, chunk)
            assert_same_bits(attend_in_chunks(qkv, layout, 6, chunk, n_threads), one)


@pytest.mark.parametrize("kind", KV_KINDS)
def test_several_sequences_in_a_call(kind: str, rng: np.random.Generator) -> None:
    """Sequences of any length and number of rows, each as it would be alone."""
    layout = BlockLayout(kind, kv_heads=2, head_dim=16)
    shapes = [(1, 0), (1, 300), (7, 0), (4, 254), (20, 250), (1, 256), (3, 600)]  # rows, position
    parts, wanted = [], []
    caches = []
    for rows, position in shapes:
        qkv = random_qkv(rng, rows + position, layout, 4)
        alone, shared = (BlockCache(layout, rows + position) for _ in range(2))
        if position:
            for cache in (alone, shared):
                attend(qkv[:position], [(position, 0, cache)], 4)
        wanted.append(attend(qkv[position:], [(rows, position, alone)], 4))
        parts.append(qkv[position:])
        caches.append((alone, shared))
    sequences = [(*shape, shared) for shape, (_, shared) in zip(shapes, caches, strict=True)]
    for n_threads in (1, 3):
        out = attend(np.concatenate(parts), sequences, 4, n_threads=n_threads)
        assert_same_bits(out, np.concatenate(wanted))
    for alone, shared in caches:
        for one, other in zip(alone.blocks, shared.blocks, strict=True):
            assert_same_bits(one, other)


def test_blocks_may_be_shared_between_sequences(rng: np.random.Generator) -> None:
    """Two sequences with the same first block, as a shared prefix has it."""
    layout = BlockLayout("float32", kv_heads=1, head_dim=16)
    qkv = random_qkv(rng, 256 + 2 * 9, layout, 2)
    prefix, tails = qkv[:256], (qkv[256:265], qkv[265:])
    first, second = BlockCache(layout, 300), BlockCache(layout, 300)
    attend(prefix, [(256, 0, first)], 2)
    second.table[0] = first.table[0]
    out = attend(np.concatenate(tails), [(9, 256, first), (9, 256, second)], 2)
    for tail, found in zip(tails, (out[:9], out[9:]), strict=True):
        alone = attend_in_chunks(np.concatenate([prefix, tail]), layout, 2, 265)
        assert_same_bits(found, alone[256:])


def test_computing_a_position_again_changes_nothing(rng: np.random.Generator) -> None:
    """After truncation the same tokens are written over what stood there."""
    layout = BlockLayout("int8", kv_heads=1, head_dim=16)
    qkv, other = random_qkv(rng, 300, layout, 2), random_qkv(rng, 300, layout, 2)
    cache = BlockCache(layout, 300)
    first = attend(qkv, [(300, 0, cache)], 2)
    attend(other[250:], [(50, 250, cache)], 2)
    assert_same_bits(attend(qkv[250:], [(50, 250, cache)], 2), first[250:])
