"""Nothing beyond the end of an array is read or written, whatever its size."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels import attention, elementwise, packing
from ryzanstein_llm.kernels.linear import norm_dense, norm_gated, norm_project
from ryzanstein_llm.kernels.workspace import Workspace

from .block_cache import BlockCache, BlockLayout, random_qkv, rotary
from .page_end import at_page_end, needs_page_protection
from .same_bits import assert_same_bits
from .ternary_cases import random_case

pytestmark = [needs_page_protection, pytest.mark.usefixtures("tier")]

SIZES = (1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 100)


def test_elementwise_reads(rng: np.random.Generator) -> None:
    for size in SIZES:
        x, y = (at_page_end(rng.standard_normal(size, np.float32)) for _ in range(2))
        elementwise.rms_norm(x, y, 1e-5)
        elementwise.layer_norm(x, y, y, 1e-5)
        elementwise.quantize(x)
        elementwise.exp(x)
        elementwise.softmax_weights(x)
        elementwise.activate("gelu", x, y)
        heads = rng.standard_normal((1, 2 * size), np.float32)
        elementwise.rope(at_page_end(heads), x, y)


def test_linear_reads_and_writes(rng: np.random.Generator) -> None:
    for columns in SIZES:
        for rows, tokens in ((1, 1), (5, 2), (16, 1), (17, 7), (65, 3)):
            (gate, _), (up, _) = random_case(rows, columns, 1), random_case(rows, columns, 2)
            x = at_page_end(rng.standard_normal((tokens, columns), np.float32))
            gain = at_page_end(np.ones(columns, np.float32))
            out = at_page_end(np.full((tokens, rows), np.nan, np.float32))
            norm_project(x, gain, 1e-5, [gate], [out], Workspace(1))
            assert np.isfinite(out).all()
            norm_project(x, gain, 1e-5, [gate], [out], Workspace(1), accumulate=True)
            norm_gated(x, gain, 1e-5, gate, up, "relu2", out, Workspace(1))
            for kind, dtype in (("F32", np.float32), ("F16", np.float16), ("BF16", np.uint16)):
                w = at_page_end(np.zeros((rows, columns), dtype))
                norm_dense(x, gain, 1e-5, w, kind, out, Workspace(1))
                assert not out.any()


def test_packing_reads(rng: np.random.Generator) -> None:
    for columns in SIZES:
        for rows in (1, 4, 17):
            packed = at_page_end(np.zeros(((rows + 3) // 4, columns), np.uint8))
            tiles, _ = packing.pack_hf(packed, rows, 1)
            assert np.all(packing.unpack(at_page_end(tiles), rows, columns) == -1)
            for kind, dtype in (("F32", np.float32), ("F16", np.float16), ("BF16", np.uint16)):
                packing.pack_float(at_page_end(np.zeros((rows, columns), dtype)), kind, 1)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("head_dim", [2, 6, 16, 34, 80])
def test_attention_reads_and_writes(kind: str, head_dim: int, rng: np.random.Generator) -> None:
    """A full block that ends at a page's end, with queries, tables and outputs that do too."""
    layout = BlockLayout(kind, kv_heads=1, head_dim=head_dim)
    qkv = random_qkv(rng, 258, layout, 3)
    plain = BlockCache(layout, 258)
    ending = BlockCache(layout, 258)
    ending.blocks = [at_page_end(block) for block in ending.blocks]
    ending.table[...] = [block.ctypes.data for block in ending.blocks]
    results = []
    for cache, place in ((plain, np.copy), (ending, at_page_end)):
        tables = tuple(place(table) for table in rotary(head_dim, 258))
        for at, rows in ((0, 100), (100, 3), (103, 153), (256, 2)):
            out = place(np.full((rows, 3 * head_dim), np.nan, np.float32))
            new = place(qkv[at : at + rows])
            segment = (rows, at, place(cache.table))
            attention.rope_append_attend(
                new, [segment], layout, 0, 3, tables, 0.25, out, Workspace(1)
            )
            results.append(out)
    for one, other in zip(results[:4], results[4:], strict=True):
        assert_same_bits(one, other)
