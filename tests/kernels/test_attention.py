"""Attention of one layer: right against float64, and in the order kernels.h fixes."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import exp

from . import steps
from .block_cache import BlockCache, BlockLayout, attend, random_qkv, rotated
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

KV_KINDS = ("float32", "bfloat16", "int8")

# Of the largest value: a score of magnitude s rounds by about head_dim/2 * 2^-24 * s at worst
# and moves its weight by as much; queries here are standard normal, so s stays below 8. Then
# come exp (2 ulp) and sums of up to 256 per block. Compared with the *stored* keys and values.
ATTENTION_TOLERANCE = 4e-6
# Of an int8 cache also queries and weights become codes. A query element is off by at most half a
# step, m / 32,512 with m < 6, so a score of standard normal keys by a standard deviation of 1e-4 at
# most, and a weight by 2^-16 of the largest. The exact codes are in `test_order_of_operations`.
CODES_TOLERANCE = 6e-4


def check(layout: BlockLayout, heads: int, rows: int, position: int,
          rng: np.random.Generator) -> None:  # fmt: skip
    """Fills `position` tokens, then compares the next `rows` with float64."""
    context = position + rows
    qkv = random_qkv(rng, context, layout, heads)
    cache = BlockCache(layout, context)
    if position:
        attend(qkv[:position], [(position, 0, cache)], heads)
    out = attend(qkv[position:], [(rows, position, cache)], heads)
    queries, _, _ = rotated(qkv[position:], layout, heads, position)
    k, v = cache.widened(context)
    exact = reference.attention(queries, k, v).reshape(rows, -1)
    tolerance = CODES_TOLERANCE if layout.kind == "int8" else ATTENTION_TOLERANCE
    assert np.max(np.abs(out - exact)) <= tolerance * np.max(np.abs(v))


@pytest.mark.parametrize("kind", KV_KINDS)
@pytest.mark.parametrize("context", [1, 2, 255, 256, 257, 600, 1025])
def test_contexts_around_blocks_of_256(context: int, kind: str, rng: np.random.Generator) -> None:
    layout = BlockLayout(kind, kv_heads=1, head_dim=16)
    check(layout, 2, context, 0, rng)  # prefill
    check(layout, 2, 1, context - 1, rng)  # decode of the last token
    if context > 3:
        check(layout, 2, 3, context - 3, rng)  # a few at once, as drafts are checked


@pytest.mark.parametrize("kind", KV_KINDS)
@pytest.mark.parametrize("heads", [1, 2, 4, 5, 7, 8, 15, 16, 17, 20, 33])
def test_groups_of_query_heads(heads: int, kind: str, rng: np.random.Generator) -> None:
    """Groups above 16 heads are cut into several tasks."""
    for kv_heads in (1, 3):
        layout = BlockLayout(kind, kv_heads, head_dim=16)
        check(layout, heads * kv_heads, 23, 0, rng)
        check(layout, heads * kv_heads, 2, 256, rng)


@pytest.mark.parametrize("kind", KV_KINDS)
@pytest.mark.parametrize("head_dim", [2, 6, 16, 34, 64, 80, 96, 100, 128, 256])
def test_head_dimensions(head_dim: int, kind: str, rng: np.random.Generator) -> None:
    layout = BlockLayout(kind, kv_heads=2, head_dim=head_dim)
    check(layout, 6, 33, 0, rng)
    check(layout, 6, 1, 270, rng)


@pytest.mark.parametrize("kind", KV_KINDS)
def test_what_is_stored(kind: str, rng: np.random.Generator) -> None:
    """Rotated keys and the values, in the kind's form; nothing else is written."""
    layout = BlockLayout(kind, kv_heads=3, head_dim=20)
    qkv = random_qkv(rng, 300, layout, 6)
    qkv[7] *= np.float32(1e4)
    qkv[8] = 0
    cache = BlockCache(layout, 300)
    attend(qkv, [(300, 0, cache)], 6)
    _, keys, values = rotated(qkv, layout, 6, 0)
    k, v, k_scale, v_scale = cache.stored(300)
    for stored, scale, wanted in ((k, k_scale, keys), (v, v_scale, values)):
        if kind == "float32":
            assert_same_bits(stored, wanted)
        elif kind == "bfloat16":
            bits = wanted.view(np.uint32)
            rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to nearest, ties to even
            assert_same_bits(stored, rounded.astype(np.uint16))
        else:
            largest = np.abs(wanted).max(axis=-1)
            factor = np.float32(127) / np.where(largest > 0, largest, np.float32(np.inf))
            codes = np.rint(wanted * factor[..., None])
            assert_same_bits(stored, codes.astype(np.int8))
            assert_same_bits(scale, largest / np.float32(127))
    # 300 of 512 positions, and no scales unless int8
    depths = layout.key_depth + layout.value_depth
    used = 300 * 3 * (depths * layout.element_size + (8 if kind == "int8" else 0))
    untouched = sum(block.size for block in cache.blocks) - used
    assert sum(np.count_nonzero(block == 0xFF) for block in cache.blocks) >= untouched


@pytest.mark.parametrize("kind", KV_KINDS)
@pytest.mark.parametrize("head_dim", [16, 34, 80])
def test_order_of_operations(head_dim: int, kind: str, rng: np.random.Generator) -> None:
    """One query, several blocks, every operation as the contract lists them."""
    layout = BlockLayout(kind, kv_heads=1, head_dim=head_dim)
    for context in (1, 17, 256, 530):
        qkv = random_qkv(rng, context, layout, 1)
        cache = BlockCache(layout, context)
        out = attend(qkv, [(context, 0, cache)], 1, scale=0.3)
        query = rotated(qkv[-1:], layout, 1, context - 1)[0][0, 0]
        k, v, k_scale, v_scale = cache.stored(context)
        if kind == "bfloat16":
            k, v = ((a.astype(np.uint32) << 16).view(np.float32) for a in (k, v))
        keys, values = (a[:, 0].astype(np.float32) for a in (k, v))
        scales = (k_scale[:, 0], v_scale[:, 0]) if kind == "int8" else (None, None)
        assert_same_bits(out[-1], steps.attend(query, keys, values, 0.3, exp, *scales))


def test_layers_of_a_block_are_apart(rng: np.random.Generator) -> None:
    layout = BlockLayout("int8", kv_heads=2, head_dim=16, layers=3)
    cache = BlockCache(layout, 40)
    alone = BlockLayout("int8", kv_heads=2, head_dim=16)
    inputs = [random_qkv(rng, 40, layout, 4) for _ in range(3)]
    outputs = [attend(qkv, [(40, 0, cache)], 4, layer=i) for i, qkv in enumerate(inputs)]
    for layer, qkv in enumerate(inputs):
        single = BlockCache(alone, 40)
        assert_same_bits(outputs[layer], attend(qkv, [(40, 0, single)], 4))
        assert_same_bits(cache.stored(40, layer), single.stored(40))


def test_scores_far_apart(rng: np.random.Generator) -> None:
    """One key so close to the query that every other weight vanishes, blocks apart."""
    layout = BlockLayout("float32", kv_heads=1, head_dim=16)
    for place in (0, 100, 299, 599):
        qkv = random_qkv(rng, 600, layout, 1)
        cache = BlockCache(layout, 600)
        attend(qkv, [(600, 0, cache)], 1)
        v = cache.stored(600)[1]
        query = rotated(qkv[-1:], layout, 1, 599)[0][0, 0]
        keys = cache.blocks[place // 256][: 16 * 256 * 4].view(np.float32).reshape(16, 256)
        keys[:, place % 256] = 1000 * query
        if place < 599:  # the last token's own key would be written again
            out = attend(qkv[-1:], [(1, 599, cache)], 1)
            assert_same_bits(out[0], v[place, 0] + np.float32(0))


def test_unseen_positions_never_take_part(rng: np.random.Generator) -> None:
    """What stands in the cache after the last position: NaN, infinity or numbers, same bits."""
    for kind in KV_KINDS:
        layout = BlockLayout(kind, kv_heads=1, head_dim=34)
        qkv = random_qkv(rng, 70, layout, 3)
        results = []
        for filling in (0xFF, 0x00, 0x7F, 0x42):
            cache = BlockCache(layout, 70)
            for block in cache.blocks:
                block[...] = filling
            whole = attend(qkv[:69], [(69, 0, cache)], 3)
            results.append((whole, attend(qkv[69:], [(1, 69, cache)], 3)))
        for result in results[1:]:
            assert_same_bits(result, results[0])
