"""From checkpoint weights to tiles: the published packing, and absmean of master weights."""

from __future__ import annotations

import numpy as np
import pytest
from reference import absmean, pack_rows

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.testing import from_bf16_bits, to_bf16_bits

from .same_bits import assert_same_bits

# t[j] = ((j*j + j//5) mod 3) - 1 for j = 0..31 as (8, 4), packed as transformers packs it
PUBLISHED = bytes.fromhex("5815019029122162")
LISTED = np.array([(j * j + j // 5) % 3 - 1 for j in range(32)], np.int8).reshape(8, 4)

SHAPES = [(1, 1), (2, 3), (3, 16), (4, 17), (15, 15), (16, 16), (17, 33), (30, 100), (65, 63),
          (256, 256), (257, 300), (100, 600), (1000, 20), (1200, 20)]  # fmt: skip
LAYOUTS = tuple(packing.LAYOUTS)


def unpack(codes: np.ndarray, layout: str) -> np.ndarray:
    """All that is stored, padding too, as int8 of -1, 0, 1, by the words of kernels.h."""
    if layout == "tiles":  # byte 4*row + b holds columns b, 4+b, 8+b, 12+b in bit pairs 0, 2, 4, 6
        row_tiles, column_tiles, _ = codes.shape
        values = np.empty((row_tiles, 16, column_tiles, 16), np.uint8)
        of_row = codes.reshape(row_tiles, column_tiles, 16, 4)
        for column in range(16):
            pair = of_row[..., column % 4] >> (2 * (column // 4)) & 3
            values[..., column] = pair.transpose(0, 2, 1)
        return values.reshape(16 * row_tiles, 16 * column_tiles).astype(np.int8) - 1
    if layout == "trits":  # as tiles, 4 columns a digit; a byte lies in one of 243 parts of 0..255
        row_tiles, tiles, _ = codes.shape
        part = codes.reshape(row_tiles, tiles, 16, 4).astype(np.int64) * 243 // 256
        digits = np.stack([part // 3 ** (4 - k) % 3 for k in range(5)], axis=3)
        return (
            digits.reshape(row_tiles, tiles, 16, 20).transpose(0, 2, 1, 3)
            .reshape(16 * row_tiles, 20 * tiles).astype(np.int8) - 1
        )  # fmt: skip
    if layout == "tables":  # w0 + 3*w1 + 9*w2: size in half a byte, sign in a bit
        blocks, tiles, _ = codes.shape
        halves = codes[..., :256].reshape(blocks, tiles, 8, 32)
        size = np.concatenate([halves & 15, halves >> 4], axis=3).astype(np.int64)  # by row
        sign = codes[..., None, 256:] >> np.arange(7, -1, -1, np.uint8)[:, None] & 1
        number = np.where(sign == 1, -size, size) + 13
        digits = np.stack(
            [number // 3**k % 3 for k in range(3)], axis=4
        )  # block, tile, triple, row
        return digits.transpose(0, 3, 1, 2, 4).reshape(64 * blocks, 24 * tiles).astype(np.int8) - 1
    runs, lines, _ = codes.shape
    trits = layout.startswith("trit_")  # 64 codes a bit pair or digit
    line = 320 if trits else 256
    values = np.empty((runs, lines, line), np.uint8)
    for i in range(line):
        byte, place = i % 64, i // 64
        if layout.endswith("columns"):  # row 64*p + 16*q + 4*l + k in byte 16*l + 4*q + k
            quarter, lane, k = byte // 16, byte // 4 % 4, byte % 4
            byte = 16 * lane + 4 * quarter + k
        held = codes[:, :, byte]
        if trits:
            values[:, :, i] = held.astype(np.int64) * 243 // 256 // 3 ** (4 - place) % 3
        else:
            values[:, :, i] = held >> (2 * place) & 3
    found = values.reshape(runs, line * lines).astype(np.int8) - 1
    return found if layout.endswith("rows") else found.T


def assert_holds(codes: np.ndarray, t: np.ndarray, layout: str = "tiles") -> None:
    """The codes hold t, zeros (code 1) around it, and `packing.unpack` reads the same."""
    assert codes.shape == packing.storage_shape(*t.shape, layout)
    assert codes.ctypes.data % 64 == 0
    whole = unpack(codes, layout)
    assert_same_bits(whole[: t.shape[0], : t.shape[1]], t)
    assert not whole[t.shape[0] :].any()
    assert not whole[:, t.shape[1] :].any()
    assert_same_bits(packing.unpack(codes, *t.shape, layout), t)


def test_the_published_test_vector() -> None:
    packed = np.frombuffer(PUBLISHED, np.uint8).reshape(2, 4)
    tiles, clean = packing.pack_hf(packed, 8, 1)
    assert clean
    assert_holds(tiles, LISTED)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_published_packing(
    shape: tuple[int, int], n_threads: int, layout: str, rng: np.random.Generator
) -> None:
    """Also for rows that are no multiple of 4 or 16."""
    t = rng.integers(-1, 2, shape, np.int8)
    codes, clean = packing.pack_hf(pack_rows(t), shape[0], n_threads, layout=layout)
    assert clean
    assert_holds(codes, t, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_code_3_is_noticed_wherever_it_is(n_threads: int, layout: str) -> None:
    rows, columns = 37, 35
    for row in (0, 1, 15, 16, 36):
        for column in (0, 4, 15, 16, 34):
            packed = pack_rows(np.zeros((rows, columns), np.int8))
            quarter = packed.shape[0]
            packed[row % quarter, column] |= 3 << 2 * (row // quarter)
            found = packing.pack_hf(packed, rows, n_threads, layout=layout)
            assert found[1] is False, (row, column)


def test_code_3_in_the_padding_of_the_file_does_not_matter() -> None:
    """9 rows are 3 bytes of four: the last three bit pairs belong to no row."""
    t = np.ones((9, 20), np.int8)
    packed = pack_rows(t)
    packed[1:, :] |= 0b11000000
    tiles, clean = packing.pack_hf(packed, 9, 1)
    assert clean
    assert_holds(tiles, t)


def test_packed_weights_at_an_odd_address(rng: np.random.Generator) -> None:
    t = rng.integers(-1, 2, (33, 50), np.int8)
    packed = pack_rows(t)
    held = np.empty(packed.size + 1, np.uint8)
    held[1:] = packed.reshape(-1)
    assert_holds(packing.pack_hf(held[1:].reshape(packed.shape), 33, 1)[0], t)


def as_stored(master: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The masters rounded to a kind: (as pack_float takes them, the numbers in float64)."""
    if kind == "BF16":
        bits = to_bf16_bits(master)
        return bits, from_bf16_bits(bits).astype(np.float64)
    stored = master.astype({"F32": np.float32, "F16": np.float16}[kind])
    return stored, stored.astype(np.float64)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_absmean(shape: tuple[int, int], layout: str, kind: str, rng: np.random.Generator) -> None:
    stored, values = as_stored(0.03 * rng.standard_normal(shape), kind)
    codes, scale = packing.pack_float(stored, kind, 2, layout=layout)
    wanted = absmean(values)
    assert scale == np.float32(wanted.multiplier)
    assert_holds(codes, wanted.t, layout)


def test_absmean_ties_go_to_zero() -> None:
    """The mean rounds to 1: then 0.5 rounds to the even 0, the next float above it to 1."""
    above = np.nextafter(np.float32(0.5), np.float32(1))
    w = np.array([[0.5, -0.5, 1.5, 1.5], [above, -above, 1.5, -1.5]], np.float32)
    tiles, scale = packing.pack_float(w, "F32", 1)
    assert scale == 1.0
    assert_holds(tiles, np.array([[0, 0, 1, 1], [1, -1, 1, -1]], np.int8))


def test_absmean_of_subnormal_half_floats() -> None:
    """Below 2^-14 float16 is subnormal; the mean is floored at 1e-5."""
    step = 2.0**-24
    w = np.array([[1000, -900, 3, -1], [600, 0, -1023, 512]], np.float64) * step
    tiles, scale = packing.pack_float(w.astype(np.float16), "F16", 1)
    wanted = absmean(w)
    assert scale == np.float32(wanted.multiplier)
    assert wanted.multiplier > 1e-5
    assert_holds(tiles, wanted.t)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_absmean_of_all_zeros_has_the_floor_as_scale(kind: str) -> None:
    stored, _ = as_stored(np.zeros((5, 7)), kind)
    tiles, scale = packing.pack_float(stored, kind, 1)
    assert scale == np.float32(1e-5)
    assert_holds(tiles, np.zeros((5, 7), np.int8))


def test_absmean_does_not_drift(rng: np.random.Generator) -> None:
    """17.7 million weights (2,560 x 6,912): a float32 sum stops growing at 2^24 steps."""
    w = rng.standard_normal((2560, 6912), np.float32)
    w *= np.float32(0.02)
    tiles, scale = packing.pack_float(w, "F32", 2)
    assert scale == np.float32(np.mean(np.abs(w), dtype=np.float64))
    rows = [0, 15, 16, 1279, 2559]
    quotient = w[rows] * (np.float32(1) / np.float32(scale))
    wanted = np.clip(np.rint(quotient), -1, 1).astype(np.int8)
    assert_same_bits(packing.unpack(tiles, *w.shape)[rows], wanted)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_absmean_passes_on_nan_and_infinity(kind: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        w = np.ones((3, 20), np.float32)
        w[2, 19] = bad
        _, scale = packing.pack_float(as_stored(w, kind)[0], kind, 1)
        assert not np.isfinite(scale)


def test_absmean_does_not_depend_on_threads(rng: np.random.Generator) -> None:
    w = rng.standard_normal((100, 333), np.float32)
    one = packing.pack_float(w, "F32", 1)
    for n_threads in (2, 3):
        assert_same_bits(packing.pack_float(w, "F32", n_threads), one)
