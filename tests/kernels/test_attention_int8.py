"""Attention over an int8 cache, which multiplies in integers: its largest sums, and values that
are zero, tiny, far apart or not finite. What all kinds of cache share, and the order of operations,
is in test_attention.py."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import exp

from . import steps
from .block_cache import BlockCache, BlockLayout, attend, random_qkv, rotated
from .same_bits import assert_same_bits
from .test_attention import CODES_TOLERANCE

pytestmark = pytest.mark.usefixtures("tier")


def test_integer_sums_at_their_largest() -> None:
    """All codes as large as they can be, of either sign: 1024 * 127 * 16,256 in a score and
    256 * 127 * 32,767 in a value, both just below 2**31."""
    layout = BlockLayout("int8", kv_heads=1, head_dim=1024)
    for q_sign in (1, -1):
        for v_sign in (1, -1):
            row = np.concatenate([np.full(1024, q_sign), np.ones(1024), np.full(1024, v_sign)])
            qkv = np.tile(row.astype(np.float32), (256, 1))
            out = attend(qkv, [(256, 0, BlockCache(layout, 256))], 1, scale=1e-3, turned=False)
            codes = np.full((256, 1024), 127, np.float32)
            scales = np.full(256, np.float32(1) / np.float32(127))
            wanted = steps.attend(qkv[0, :1024], codes, v_sign * codes, 1e-3, exp, scales, scales)
            assert_same_bits(out[-1], wanted)
            assert np.abs(out - v_sign).max() < 1e-6


def test_a_query_of_an_int8_cache_that_is_zero_tiny_or_not_finite(rng: np.random.Generator) -> None:
    layout = BlockLayout("int8", kv_heads=1, head_dim=20)
    for value, finite in (
        (0.0, True),
        (1e-38, True),
        (1e30, True),
        (np.inf, False),
        (np.nan, False),
    ):
        qkv = random_qkv(rng, 300, layout, 1)
        qkv[-1, :20] *= np.float32(value if finite else 1)
        if not finite:
            qkv[-1, 3] = value
        out = attend(qkv, [(300, 0, BlockCache(layout, 300))], 1, turned=False)
        assert np.isfinite(out[:-1]).all()
        assert np.isfinite(out[-1]).all() if finite else np.isnan(out[-1]).all()
        if value <= 1e-38:  # all positions count alike
            _, v, _, v_scale = (a[:, 0] for a in filled(layout, qkv).stored(300))
            assert np.allclose(out[-1], np.mean(v * v_scale[:, None], axis=0), atol=1e-4)


def filled(layout: BlockLayout, qkv: np.ndarray) -> BlockCache:
    cache = BlockCache(layout, len(qkv))
    attend(qkv, [(len(qkv), 0, cache)], 1, turned=False)
    return cache


def test_values_of_an_int8_cache_of_very_different_size(rng: np.random.Generator) -> None:
    """Weights become codes together with the values' scales: small values beside a large one are
    off by a part of the large one, as their sum is."""
    layout = BlockLayout("int8", kv_heads=1, head_dim=16)
    qkv = random_qkv(rng, 256, layout, 1)
    qkv[100, 32:] *= np.float32(1e4)
    cache = BlockCache(layout, 256)
    out = attend(qkv, [(256, 0, cache)], 1)
    query, _, _ = rotated(qkv, layout, 1, 0)
    k, v = cache.widened(256)
    exact = reference.attention(query, k, v).reshape(256, -1)
    assert np.max(np.abs(out - exact)) <= CODES_TOLERANCE * np.max(np.abs(v))


def test_codes_of_queries_and_weights_cost_little_beside_those_of_keys_and_values(
    rng: np.random.Generator,
) -> None:
    """They have 15 bits, keys and values have 8: root mean squares of what each of them changes."""
    layout = BlockLayout("int8", kv_heads=2, head_dim=64)
    qkv = random_qkv(rng, 600, layout, 4)
    cache = BlockCache(layout, 600)
    out = attend(qkv, [(600, 0, cache)], 4, turned=False)
    q, k, v = np.split(qkv.reshape(600, 8, 64), (4, 6), axis=1)
    stored = reference.attention(q, *cache.widened(600)).reshape(600, -1)
    exact = reference.attention(q, k, v).reshape(600, -1)
    by_codes, by_cache = (np.sqrt(np.mean(d * d)) for d in (out - stored, stored - exact))
    assert 0 < by_codes < by_cache / 30


def test_not_finite_values_of_an_int8_cache_show(rng: np.random.Generator) -> None:
    layout = BlockLayout("int8", kv_heads=1, head_dim=16)
    qkv = random_qkv(rng, 60, layout, 1)
    qkv[50, 40] = np.inf
    out = attend(qkv, [(60, 0, BlockCache(layout, 60))], 1)
    assert np.isfinite(out[:50]).all()
    assert np.isnan(out[50:]).all()
