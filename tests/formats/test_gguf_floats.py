"""Embeddings in block types of GGUF: equal bit for bit to their definition, one element at a
time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from extras import needs_extra

from ryzanstein_llm.formats.gguf_floats import BLOCK_FLOATS, decode
from ryzanstein_llm.formats.gguf_types import TYPES

Block = np.ndarray


def half(block: Block, at: int) -> float:
    return float(block[at : at + 2].view("<f2")[0])


def q8_0(block: Block) -> list[float]:
    return [half(block, 0) * int(block[2 + i].view(np.int8)) for i in range(32)]


def q4_0(block: Block) -> list[float]:
    codes = [int(block[2 + i % 16]) >> 4 * (i // 16) & 15 for i in range(32)]
    return [half(block, 0) * (code - 8) for code in codes]


def scale_and_minimum(block: Block, group: int) -> tuple[int, int]:
    packed = [int(byte) for byte in block[4:16]]
    if group < 4:
        return packed[group] & 63, packed[group + 4] & 63
    low = packed[group + 4]
    return low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4


def k_blocks(block: Block, code: Callable[[int, int], int]) -> list[float]:
    values = []
    for i in range(256):
        scale, minimum = scale_and_minimum(block, i // 32)
        # both products are exact in float64 and in float32; their difference is rounded once
        step = np.float32(half(block, 0) * scale * code(i // 32, i % 32))
        values.append(float(step - np.float32(half(block, 2) * minimum)))
    return values


def q4_k(block: Block) -> list[float]:
    return k_blocks(
        block, lambda group, i: int(block[16 + group // 2 * 32 + i]) >> group % 2 * 4 & 15
    )


def q5_k(block: Block) -> list[float]:
    def code(group: int, i: int) -> int:
        low = int(block[48 + group // 2 * 32 + i]) >> group % 2 * 4 & 15
        return low | (int(block[16 + i]) >> group & 1) << 4

    return k_blocks(block, code)


def q6_k(block: Block) -> list[float]:
    values = []
    for i in range(256):
        part, inside = divmod(i, 128)
        low = int(block[64 * part + inside % 64]) >> inside // 64 * 4 & 15
        high = int(block[128 + 32 * part + inside % 32]) >> inside // 32 * 2 & 3
        scale = int(block[192 + i // 16].view(np.int8))
        values.append(half(block, 208) * scale * ((low | high << 4) - 32))
    return values


DEFINITIONS = {"Q8_0": q8_0, "Q4_0": q4_0, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k}
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(rng: np.random.Generator, dtype: str, count: int) -> np.ndarray:
    """All bits random but those that make a scale infinite; subnormal ones occur."""
    blocks = rng.integers(0, 256, (count, BLOCK_FLOATS[dtype][1]), np.uint8)
    for at in SCALES[dtype]:
        blocks[:, at + 1] &= 0xBB
        blocks[::3, at + 1] &= 0x83
    blocks[0], blocks[1] = 0, 255
    for at in SCALES[dtype]:
        blocks[1, at + 1] = 0x7B  # the largest fp16
    return blocks


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("dtype", BLOCK_FLOATS)
def test_values_are_those_of_the_definition(rng: np.random.Generator, dtype: str) -> None:
    blocks = random_blocks(rng, dtype, 40)
    wanted = np.array([DEFINITIONS[dtype](block) for block in blocks])
    as_float32 = wanted.astype(np.float32)
    assert np.array_equal(as_float32, wanted)  # nothing was rounded
    found = decode(dtype, blocks.reshape(-1), (8, wanted.size // 8))
    assert found.dtype == np.float32
    assert not found.flags.writeable
    assert same_bits(found, as_float32.reshape(8, -1))


@pytest.mark.parametrize("dtype", BLOCK_FLOATS)
def test_values_are_those_of_the_gguf_library(rng: np.random.Generator, dtype: str) -> None:
    needs_extra("peers", "gguf")
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    blocks = random_blocks(rng, dtype, 4000)  # several slices
    wanted = dequantize(blocks, GGMLQuantizationType[dtype])
    assert same_bits(decode(dtype, blocks.reshape(-1), wanted.shape), wanted)


@pytest.mark.parametrize("dtype", BLOCK_FLOATS)
def test_scales_that_are_no_numbers_stay_so(rng: np.random.Generator, dtype: str) -> None:
    blocks = random_blocks(rng, dtype, 2)
    at = SCALES[dtype][0]
    blocks[0, at : at + 2] = np.array([0x7E00], "<u2").view(np.uint8)
    blocks[1, at : at + 2] = np.array([0x7C00], "<u2").view(np.uint8)
    found = decode(dtype, blocks.reshape(-1), (2, BLOCK_FLOATS[dtype][0]))
    assert np.isnan(found[0]).all()
    assert not np.isfinite(found[1]).any()


@pytest.mark.parametrize("dtype", BLOCK_FLOATS)
def test_decoding_needs_little_more_than_the_result(dtype: str) -> None:
    elements, nbytes, _ = BLOCK_FLOATS[dtype]
    raw = np.zeros(nbytes * (8 << 20) // elements, np.uint8)
    tracemalloc.start()
    try:
        result = decode(dtype, raw, (1 << 10, 1 << 13))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < 2 << 20


def test_blocks_are_those_of_the_table() -> None:
    sizes = {kind.name: (kind.elements, kind.nbytes) for (kind, *_) in TYPES.values()}
    for dtype, (elements, nbytes, _) in BLOCK_FLOATS.items():
        assert sizes[dtype] == (elements, nbytes)
