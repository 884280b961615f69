"""`benchmarks.peers.ggml_blocks` against two readers: ggml's C loops, written out here value by
value, and PyPI `gguf`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from extras import needs_extra

from benchmarks.peers.ggml_blocks import pack_q6_k, pack_tq1_0, pack_tq2_0

SCALE = 0.0234375  # exact in float16
PACKERS = {"TQ1_0": pack_tq1_0, "TQ2_0": pack_tq2_0}
BITS = {"TQ1_0": 1.6875, "TQ2_0": 2.0625, "Q6_K": 6.5625}


# ---- dequantize_row_* of ggml-quants.c ---------------------------------------------------------


def read_tq2_0(block: bytes) -> list[float]:
    d = half(block[64:])
    return [
        ((block[j + m] >> 2 * level & 3) - 1) * d
        for j in (0, 32)
        for level in range(4)
        for m in range(32)
    ]


def read_tq1_0(block: bytes) -> list[float]:
    qs, qh, d = block[:48], block[48:52], half(block[52:])
    places = [(qs, j + m, n) for j, w in ((0, 32), (32, 16)) for n in range(5) for m in range(w)]
    places += [(qh, j, n) for n in range(4) for j in range(4)]
    # the product wraps around in a byte: what is left after n digits
    return [(((part[at] * 3**n & 255) * 3 >> 8) - 1) * d for part, at, n in places]


def read_q6_k(block: bytes) -> list[float]:
    ql, qh = block[:128], block[128:192]
    scales, d = np.frombuffer(block[192:208], np.int8), half(block[208:])
    values = np.zeros(256)
    for half_block in range(2):
        for i in range(32):
            low, high = ql[64 * half_block :], qh[32 * half_block + i]
            levels = (
                low[i] & 15 | (high & 3) << 4,
                low[i + 32] & 15 | (high >> 2 & 3) << 4,
                low[i] >> 4 | (high >> 4 & 3) << 4,
                low[i + 32] >> 4 | (high >> 6 & 3) << 4,
            )
            for run, level in enumerate(levels):
                scale = int(scales[8 * half_block + 2 * run + i // 16])
                values[128 * half_block + 32 * run + i] = d * scale * (level - 32)
    return values.tolist()


READERS = {"TQ1_0": (54, read_tq1_0), "TQ2_0": (66, read_tq2_0), "Q6_K": (210, read_q6_k)}


def half(data: bytes) -> float:
    return float(np.frombuffer(data[:2], "<f2")[0])


def read(kind: str, packed: np.ndarray) -> np.ndarray:
    size, reader = READERS[kind]
    return np.array(
        [
            [v for at in range(0, len(row), size) for v in reader(row[at : at + size].tobytes())]
            for row in packed
        ]
    )


def gguf_read(kind: str, packed: np.ndarray) -> np.ndarray:
    quants, constants = (needs_extra("peers", f"gguf.{name}") for name in ("quants", "constants"))
    values: np.ndarray = quants.dequantize(packed, constants.GGMLQuantizationType[kind])
    return values


@pytest.fixture(params=["C", "gguf"])
def reader(request: pytest.FixtureRequest) -> Any:
    """Rows of floats from packed rows."""
    return {"C": read, "gguf": gguf_read}[request.param]


# ---- ternary -----------------------------------------------------------------------------------


@pytest.fixture
def codes(rng: np.random.Generator) -> np.ndarray:
    found = rng.integers(0, 3, (6, 768), dtype=np.uint8)
    found[0], found[1], found[2] = 0, 1, 2  # bytes at both ends of their range
    return found


@pytest.mark.parametrize("kind", PACKERS)
def test_ternary_weights_come_back_exactly(kind: str, codes: np.ndarray, reader: Any) -> None:
    packed = PACKERS[kind](codes, SCALE)
    assert packed.shape == (6, 768 * BITS[kind] / 8)
    assert np.array_equal(reader(kind, packed), (codes.astype(np.float64) - 1) * SCALE)


@pytest.mark.parametrize("kind", PACKERS)
def test_bytes_are_those_that_gguf_writes(kind: str, codes: np.ndarray) -> None:
    quants, constants = (needs_extra("peers", f"gguf.{name}") for name in ("quants", "constants"))
    values = (codes[2:].astype(np.float32) - 1) * np.float32(SCALE)
    wanted = quants.quantize(values, constants.GGMLQuantizationType[kind])
    assert np.array_equal(PACKERS[kind](codes[2:], SCALE), wanted)


@pytest.mark.parametrize("pack", PACKERS.values())
def test_what_cannot_be_stored_is_refused(pack: Any) -> None:
    good = np.ones((2, 256), np.uint8)
    for codes in (good[:, :255], good[0], good[:0], good + np.uint8(2), good.astype(np.int8)):
        with pytest.raises(ValueError, match=r"needed|must be"):
            pack(codes, 1.0)
    for scale in (0.0, -1.0, 1e-9, 1e6, float("nan")):
        with pytest.raises(ValueError, match="float16"):
            pack(good, scale)


# ---- six bits ----------------------------------------------------------------------------------


def test_six_bits_are_near(rng: np.random.Generator, reader: Any) -> None:
    """A level is 1/32 of the largest of 16. Rounding loses half of one, but opposite to the largest
    there are only 31, so at worst one is lost; and 32 times half a unit of the scale, which is
    1/128 of the largest scale of a block."""
    values = rng.standard_normal((5, 512)).astype(np.float32)
    values[1] *= np.repeat(np.float32(2) ** -(np.arange(32) % 16), 16)  # scales that differ much
    packed = pack_q6_k(values)
    assert packed.shape == (5, 512 * BITS["Q6_K"] / 8)
    error = np.abs(reader("Q6_K", packed) - values).reshape(5, -1, 16)
    largest = np.abs(values).reshape(5, -1, 16).max(axis=2)
    block = np.abs(values).reshape(5, -1, 256).max(axis=2).repeat(16, axis=1)
    bound = largest / 32 + block / 256
    assert (error <= bound[..., None] * 1.01).all()  # the unit is a float16
    assert np.sqrt(np.mean(error[2:] ** 2)) < 0.02  # values have 1; uniform errors of a level 0.016


def test_six_bits_keep_levels(rng: np.random.Generator, reader: Any) -> None:
    """Values that are levels already come back as they were."""
    levels = rng.integers(-32, 32, (4, 512)).reshape(4, -1, 16)
    levels[..., 0] = -32
    values = (levels.reshape(4, 512) * 0.125).astype(np.float32)
    assert np.array_equal(reader("Q6_K", pack_q6_k(values)), values)


def test_zeros_are_zeros(reader: Any) -> None:
    values = np.zeros((2, 512), np.float32)
    values[1, 300:] = 1.0  # a block with groups of zeros in it
    assert np.array_equal(reader("Q6_K", pack_q6_k(values)), values)
