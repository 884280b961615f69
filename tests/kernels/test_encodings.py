"""The published encodings of ternary matrices: what each byte means, and what is refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import encodings as write

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.encodings import ENCODINGS, Problem
from ryzanstein_llm.kernels.sources import TernarySource

from .group_cases import GROUP_LAYOUTS, assert_holds_groups
from .same_bits import assert_same_bits

Writer = Callable[[npt.NDArray[np.int8]], npt.NDArray[np.uint8]]

J = np.arange(256)
LISTED = ((J * J + J // 5) % 3 - 1).astype(np.int8)[None]
HALF = np.full((1, 4), 0.5)

# What the writers make of LISTED with scale 0.5: number of weights, bytes, and their CRC-32.
VECTORS = {
    "TQ1_0": (256, 54, "2c70825087ee95c8", 0x9D42BEF0),
    "TQ2_0": (256, 66, "54a1956825 1a8906", 0xF16E1831),
    "Q2_0": (256, 72, "0038149906 0245a6", 0xB0862E63),
    "PQ2_0": (256, 68, "0038149906 0245a6", 0xAED7C1CE),
    "PTQ1_0": (128, 28, "27786735a1e2a5ee", 0x624858FB),
}
NAMES = (*write.WRITERS, "MLX2", "STQ1_0")
IN_BLOCKS = tuple(name for name in NAMES if write.WRITERS.get(name, (1,))[0])
TENSOR_SCALE = ("I2_S", "I2_S_ARM")
TWO_BITS = ("I2_S", "I2_S_ARM", "TQ2_0", "Q2_0", "PQ2_0", "MLX2", "IQ2_BN")


@dataclass
class Case:
    """A matrix, how many columns share a scale, and the arguments of TernarySource."""

    t: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float64]
    group: int
    arguments: dict[str, Any]

    def scales_of(self, layout: str) -> npt.NDArray[np.float64]:
        return np.repeat(self.scales, self.group // GROUP_LAYOUTS[layout], axis=1)


def random_scales(rows: int, groups: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """fp16 numbers, now and then 0 or subnormal."""
    bits = rng.integers(0, 0x7C00, (rows, groups), np.uint16)
    bits[rng.random((rows, groups)) < 0.1] = 0
    return bits.view(np.float16).astype(np.float64)


def case_of(
    name: str,
    rows: int,
    columns: int,
    rng: np.random.Generator,
    scale: float | None = None,
    mlx_group: int = 128,
) -> Case:
    """Random weights in an encoding; `scale`: one for the whole matrix."""
    group = {"MLX2": mlx_group, "STQ1_0": 256}.get(name) or write.WRITERS[name][0] or columns
    t = rng.integers(-1, 2, (rows, columns), np.int8)
    scales = random_scales(rows, columns // group, rng)
    if name in TENSOR_SCALE:
        scales[:] = 0.75
    if scale is not None:
        scales[:] = scale
    more: dict[str, Any] = {}
    if name == "MLX2":
        data: npt.NDArray[np.generic] = write.mlx2(t)
        halves = scales.astype(np.float16)
        more = {"kind": "F16", "scales": halves, "biases": -halves}
    elif name == "STQ1_0":
        slots, signs = (rng.integers(0, most, (rows, columns // 4)) for most in (16, 2))
        t = write.stq1_0_values(slots, signs)
        data = write.stq1_0(slots, signs, scales)
    else:
        data = write.WRITERS[name][1](t, scales)
    return Case(t, scales, group, {"data": data, "rows": rows, "columns": columns, **more})


def source_of(name: str, case: Case, **changed: Any) -> TernarySource:
    return TernarySource(name, **{**case.arguments, **changed})


def unpacked(source: TernarySource, layout: str = "tiles") -> npt.NDArray[np.int8]:
    codes, problem = packing.pack_source(source, 1, layout=layout)
    assert problem is None
    return packing.unpack(codes, source.rows, source.columns, layout)


def pack_problem(source: TernarySource, n_threads: int, layout: str) -> Problem | None:
    """What is wrong, as packing says; `problem` must say the same without packing."""
    _, problem = packing.pack_source(source, n_threads, layout=layout)
    half = layout in GROUP_LAYOUTS
    assert [source.problem(n, half=half) for n in (1, 2)] == [problem, problem]
    return problem


# ---- test vectors --------------------


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_in_blocks(name: str) -> None:
    """Those of TQ1_0 and TQ2_0 are of PyPI's `gguf`, so writer and reader are right together."""
    n, nbytes, first, crc = VECTORS[name]
    group, writer = write.WRITERS[name]
    data = writer(LISTED[:, :n], HALF[:, : n // group])
    assert data.size == nbytes
    assert data[:8].tobytes() == bytes.fromhex(first)
    assert zlib.crc32(data) == crc
    source = TernarySource(name, data, 1, n)
    assert source.common_scale() == 0.5
    assert_same_bits(unpacked(source), LISTED[:, :n])


@pytest.mark.parametrize(
    ("name", "writer", "first", "crc"),
    [
        ("I2_S", write.i2_s_codes, "154a562958a46290", 0x3CC5A164),
        ("I2_S_ARM", write.i2_s_arm_codes, "14514619669a69a4", 0x07100C81),
    ],
)
def test_vectors_of_i2_s(name: str, writer: Writer, first: str, crc: int) -> None:
    codes = writer(LISTED)
    assert codes[:8].tobytes() == bytes.fromhex(first)
    assert zlib.crc32(codes) == crc
    scale = np.array([0.5, 0, 0, 0, 0, 0, 0, 0], np.float32)
    data = np.concatenate([codes, scale.view(np.uint8)])
    source = TernarySource(name, data, 1, 256)
    assert source.common_scale() == 0.5
    assert_same_bits(unpacked(source), LISTED)


def test_vectors_of_the_rows_of_ik_llama() -> None:
    t = LISTED[:, :64]
    for name, wanted in (
        ("IQ1_BN", "62a713cc37079912 58deb0720d"),
        ("IQ2_BN", "1445916499a6691a 0681200802405014"),
    ):
        header = bytes.fromhex("0038" if name == "IQ1_BN" else "0000003f")
        data = header + bytes.fromhex(wanted)
        assert write.WRITERS[name][1](t, HALF[:, :1]).tobytes() == data
        source = TernarySource(name, np.frombuffer(data, np.uint8), 1, 64)
        assert source.common_scale() == 0.5
        assert_same_bits(unpacked(source), t)


def test_vector_of_stq1_0() -> None:
    g = np.arange(64)[None]
    slots, signs = (5 * g + 3) % 16, (g * g + g // 3) % 2
    data = write.stq1_0(slots, signs, HALF[:, :1])
    assert data.size == 42
    assert data[:8].tobytes() == bytes.fromhex("832dc7610ba54fe9")
    assert data[-2:].tobytes() == bytes.fromhex("0038")
    assert zlib.crc32(data) == 0x590871CC
    source = TernarySource("STQ1_0", data, 1, 256)
    assert source.common_scale() == 0.5
    t = unpacked(source)
    assert t[0, :16].tolist() == [0, -1, 1, 0, -1, 1, 0, -1, 1, 0, -1, 1, 1, -1, 1, 1]
    assert np.count_nonzero(t == 0) == 64
    assert t.sum() == 18


# ---- every encoding into every layout --------------------


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 256), (16, 512), (33, 768), (50, 1280)])
def test_groups(name: str, shape: tuple[int, int], layout: str, rng: np.random.Generator) -> None:
    case = case_of(name, *shape, rng)
    source = source_of(name, case)
    assert source.group == case.group
    if case.group < GROUP_LAYOUTS[layout]:
        with pytest.raises(ValueError, match="a scale for each 64 columns, too many for groups128"):
            packing.pack_source(source, 1, layout=layout)
        return
    for n_threads in (1, 2):
        codes, problem = packing.pack_source(source, n_threads, layout=layout)
        assert problem is None
        assert source.problem(n_threads) is None
        assert_holds_groups(codes, case.t, case.scales_of(layout), layout)


@pytest.mark.parametrize("name", ["Q2_0", "MLX2", "IQ1_BN", "IQ2_BN"])
def test_groups_that_are_no_whole_block_of_256(name: str, rng: np.random.Generator) -> None:
    """One group, and an odd number: the last pair has half a line of scales."""
    for columns in (64, 192, 448):
        case = case_of(name, 17, columns, rng, mlx_group=64)
        codes, problem = packing.pack_source(source_of(name, case), 2, layout="groups64")
        assert problem is None
        assert_holds_groups(codes, case.t, case.scales_of("groups64"), "groups64")


@pytest.mark.parametrize("layout", packing.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_layouts_with_one_scale(name: str, layout: str, rng: np.random.Generator) -> None:
    """Tiles of 20 and 24 columns begin within the blocks that encodings are read in."""
    for rows, columns in ((1, 256), (37, 768), (65, 1280)):
        case = case_of(name, rows, columns, rng, scale=0.375)
        source = source_of(name, case)
        assert source.common_scale(2) == 0.375
        for n_threads in (1, 2):
            codes, problem = packing.pack_source(source, n_threads, layout=layout)
            assert problem is None
            assert_same_bits(packing.unpack(codes, rows, columns, layout), case.t)


@pytest.mark.parametrize("name", NAMES)
def test_data_at_an_odd_address(name: str, rng: np.random.Generator) -> None:
    """Tensors of a GGUF or safetensors file may begin anywhere."""
    case = case_of(name, 19, 768, rng)

    def moved(array: Any) -> npt.NDArray[np.generic]:
        held = np.empty(array.nbytes + 1, np.uint8)
        held[1:] = array.reshape(-1).view(np.uint8)
        return np.frombuffer(held.data, array.dtype, array.size, 1).reshape(array.shape)

    arrays = {key: moved(value) for key, value in case.arguments.items() if hasattr(value, "dtype")}
    codes, problem = packing.pack_source(source_of(name, case, **arrays), 1, layout="groups64")
    assert problem is None
    assert_holds_groups(codes, case.t, case.scales_of("groups64"), "groups64")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head_dim", [2, 4, 12])
def test_rows_of_interleaved_heads(name: str, head_dim: int, rng: np.random.Generator) -> None:
    """As llama.cpp stores q and k; scales move with their rows."""
    case = case_of(name, 24, 512, rng)
    source = source_of(name, case, head_dim=head_dim)
    codes, problem = packing.pack_source(source, 2, layout="groups64")
    assert problem is None
    t = packing.unpack(codes, 24, 512, "groups64")
    scales = packing.unpack_scales(codes, 24, 512, "groups64")
    assert_same_bits(write.interleaved(t, head_dim), case.t)
    stored = write.interleaved(np.arange(24, dtype=np.int8)[:, None], head_dim)[:, 0]
    assert_same_bits(scales[stored], case.scales_of("groups64").astype(np.float32))


def test_rows_of_the_usual_head() -> None:
    """Head of 8: places 0..3 of the first half, then of the second; the file has them in turn."""
    stored = np.zeros((8, 64), np.float32)
    stored[np.arange(8), 8 * np.arange(8)] = 1
    source = TernarySource("ternary_floats", stored, 8, 64, kind="F32", head_dim=8)
    assert np.argmax(unpacked(source), axis=1).tolist() == [0, 16, 32, 48, 8, 24, 40, 56]


# ---- one scale or several --------------------


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_common_scale(name: str, rng: np.random.Generator) -> None:
    case = case_of(name, 20, 512, rng, scale=0.25)
    source = source_of(name, case)
    assert [source.common_scale(n) for n in (1, 2)] == [0.25, 0.25]
    case = case_of(name, 20, 512, rng)
    case.scales[7, -1] = 1.0
    case.scales[7, 0] = 2.0
    source = source_of(name, case)
    assert source.common_scale(2) is None
    with pytest.raises(ValueError, match=f"{name}, 20 x 512.* no common scale, which tiles needs"):
        packing.pack_source(source, 1)


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0", "Q2_0", "PQ2_0", "PTQ1_0", "IQ1_BN", "IQ2_BN"])
def test_groups_of_zeros_have_any_scale(name: str, rng: np.random.Generator) -> None:
    """The quantisers of llama.cpp give them 0. Where other weights have scale 0, it counts."""
    columns, (group, writer) = 512, write.WRITERS[name]
    group = group or columns
    t = rng.integers(-1, 2, (20, columns), np.int8)
    scales = np.full((20, columns // group), 0.25)
    t[7, :group] = 0
    scales[7, 0] = 0
    source = TernarySource(name, writer(t, scales), 20, columns)
    assert source.common_scale() == 0.25
    assert_same_bits(unpacked(source), t)
    t[7, group - 1] = 1
    assert TernarySource(name, writer(t, scales), 20, columns).common_scale() is None
    zeros = np.zeros_like(t), np.zeros_like(scales)
    assert TernarySource(name, writer(*zeros), 20, columns).common_scale() == 0.0


def test_row_scales_and_tensor_scales_that_are_no_half_floats(rng: np.random.Generator) -> None:
    """They stay float32 as the scale of a matrix; groups cannot hold them."""
    for name in (*TENSOR_SCALE, "IQ2_BN"):
        case = case_of(name, 17, 256, rng, scale=0.1)
        source = source_of(name, case)
        assert source.common_scale() == np.float32(0.1)
        assert_same_bits(unpacked(source), case.t)
        assert pack_problem(source, 2, "groups128") is Problem.HALF


# ---- floats that are ternary already --------------------


def stored_as(values: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.generic]:
    if kind == "BF16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F32": np.float32, "F16": np.float16}[kind])


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize("shape", [(1, 1), (5, 100), (17, 300), (40, 512)])
def test_ternary_floats(
    shape: tuple[int, int], group: int, kind: str, rng: np.random.Generator
) -> None:
    """Scales of seven bits and small exponents, which bfloat16 and float16 both have."""
    t = rng.integers(-1, 2, shape, np.int8)
    groups = -(-shape[1] // group)
    scales = rng.integers(1, 128, (shape[0], groups)) * 2.0 ** rng.integers(-20, 3)
    by_column = np.repeat(scales, group, axis=1)[:, : shape[1]]
    values = stored_as(t * by_column, kind)
    for g in range(groups):
        scales[~t[:, g * group : (g + 1) * group].any(axis=1), g] = 0
    layout = f"groups{group}"
    source = TernarySource("ternary_floats", values, *shape, kind=kind, group=group)
    codes, problem = packing.pack_source(source, 2, layout=layout)
    assert problem is None
    assert_holds_groups(codes, t, scales, layout)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_ternary_floats_with_one_scale(kind: str, rng: np.random.Generator) -> None:
    t = rng.integers(-1, 2, (30, 333), np.int8)
    t[7] = 0
    source = TernarySource("ternary_floats", stored_as(t * 0.0546875, kind), 30, 333, kind=kind)
    assert source.common_scale() == 0.0546875
    for layout in packing.LAYOUTS:
        assert_same_bits(unpacked(source, layout), t)


@pytest.mark.parametrize("layout", ["trits", "tables", "tiles", "groups128"])
def test_every_number_of_columns(layout: str, rng: np.random.Generator) -> None:
    """Where rows end within the blocks of 64 that they are read in."""
    for columns in range(1, 200):
        t = rng.integers(-1, 2, (3, columns), np.int8)
        t[:, ::128] = -1
        source = TernarySource(
            "ternary_floats", t.astype(np.float32), 3, columns, kind="F32", group=128
        )
        assert_same_bits(unpacked(source, layout), t)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("place", [(0, 0), (4, 63), (16, 64), (19, 129)])
def test_floats_that_are_not_ternary(place: tuple[int, int], kind: str) -> None:
    """One weight anywhere, smaller or larger than the others, or none at all."""
    for wrong in (0.249, 0.26, -0.5, 1e-4, np.nan):
        values = np.full((20, 130), 0.25)
        values[place] = wrong
        source = TernarySource("ternary_floats", stored_as(values, kind), 20, 130, kind=kind)
        assert pack_problem(source, 2, "groups64") is Problem.FLOATS, wrong
    values[place] = 0.25
    values[:, 64:128] = -np.inf
    source = TernarySource("ternary_floats", stored_as(values, kind), 20, 130, kind=kind)
    assert pack_problem(source, 2, "groups64") is Problem.SCALE


# ---- what is wrong with data --------------------


@pytest.mark.parametrize("name", TWO_BITS)
def test_code_3_is_noticed_wherever_it_is(name: str, rng: np.random.Generator) -> None:
    case = case_of(name, 18, 256, rng, scale=0.5)
    held = case.arguments["data"].copy()
    flat = held.reshape(-1).view(np.uint8)
    described = ENCODINGS[name]
    row_bytes = described.row_bytes(256)
    scales = {"TQ2_0": (64, 65), "Q2_0": (0, 1), "PQ2_0": (0, 1)}.get(name, ())  # in a block
    for byte in range(described.row_header, row_bytes):
        if (byte - described.row_header) % described.block_bytes in scales:
            continue
        for row, pair in ((0, 0), (17, 2 * (byte % 4))):
            at = row * row_bytes + byte
            before = flat[at]
            flat[at] |= 3 << pair
            source = source_of(name, case, data=held)
            for layout in ("groups64", "trits"):
                assert pack_problem(source, 1, layout) is Problem.CODE, (row, byte)
            flat[at] = before
    assert pack_problem(source_of(name, case, data=held), 1, "tiles") is None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TENSOR_SCALE])
def test_scales_that_cannot_be(name: str, rng: np.random.Generator) -> None:
    """Negative, infinite and NaN, in the last group; -0 is 0."""
    for wrong in (-1.0, np.inf, -np.inf, np.nan, -(2.0**-24)):
        case = case_of(name, 18, 512, rng, scale=0.5)
        scales = case.scales.copy()
        scales[-1, -1] = wrong
        source = with_scales(name, case, scales)
        assert pack_problem(source, 2, "groups64") is Problem.SCALE
        assert source.common_scale() is None
    scales[-1, -1] = -0.0
    codes, problem = packing.pack_source(with_scales(name, case, scales), 2, layout="groups64")
    assert problem is None
    case.scales = scales + 0.0
    assert_holds_groups(codes, case.t, case.scales_of("groups64"), "groups64")


def with_scales(name: str, case: Case, scales: npt.NDArray[np.float64]) -> TernarySource:
    """The same weights with other scales."""
    if name == "MLX2":
        halves = {"scales": scales.astype(np.float16), "biases": (-scales).astype(np.float16)}
        return source_of(name, case, **halves)
    if name == "STQ1_0":
        data = case.arguments["data"].copy().reshape(18, -1, 42)
        data[..., 40:] = scales.astype(np.float16).view(np.uint8).reshape(18, -1, 2)
        return source_of(name, case, data=data)
    return source_of(name, case, data=write.WRITERS[name][1](case.t, scales))


@pytest.mark.parametrize("name", TENSOR_SCALE)
def test_a_tensor_scale_that_cannot_be(name: str, rng: np.random.Generator) -> None:
    case = case_of(name, 18, 512, rng)
    for wrong in (-1.0, np.inf, np.nan):
        source = with_scales(name, case, np.full((1, 1), wrong))
        assert source.common_scale() is None
        assert pack_problem(source, 2, "groups64") is Problem.SCALE


def test_a_bias_that_is_not_minus_its_scale(rng: np.random.Generator) -> None:
    case = case_of("MLX2", 18, 512, rng, scale=0.5)
    for wrong in (0.5, -0.4, 0.0, np.nan):
        biases = case.arguments["biases"].copy()
        biases[-1, -1] = wrong
        source = source_of("MLX2", case, biases=biases)
        assert pack_problem(source, 2, "groups128") is Problem.BIAS
        assert source.common_scale() is None


# ---- sizes --------------------


@pytest.mark.parametrize("name", NAMES)
def test_wrong_lengths_are_refused(name: str, rng: np.random.Generator) -> None:
    case = case_of(name, 4, 512, rng)
    flat = case.arguments["data"].reshape(-1)
    longer = np.concatenate([flat, flat[:1]])
    for data in (flat[:-1], longer, flat[:0]):
        message = f"data of {name} have {data.nbytes} bytes, not {flat.nbytes}"
        with pytest.raises(ValueError, match=message):
            source_of(name, case, data=data)
    with pytest.raises(ValueError, match="not contiguous"):
        source_of(name, case, data=np.repeat(flat, 2)[::2])
    for rows, columns in ((0, 512), (4, 0), (4, 511), (4, 448 + 16)):
        with pytest.raises(ValueError, match=f"no {name} matrix of {rows} x {columns}"):
            source_of(name, case, rows=rows, columns=columns)
    for head_dim in (3, -2, 8):
        with pytest.raises(ValueError, match=f"4 rows of {name} .* heads of {head_dim}"):
            source_of(name, case, head_dim=head_dim)


def test_wrong_shapes_of_mlx_scales_are_refused(rng: np.random.Generator) -> None:
    case = case_of("MLX2", 4, 512, rng)
    good = case.arguments["scales"]
    assert isinstance(good, np.ndarray)
    for scales in (good[:3], good[:, :3], good.reshape(-1), np.repeat(good, 4, axis=1)):
        with pytest.raises(ValueError, match="for 4 x 512 in groups of 64 or 128"):
            source_of("MLX2", case, scales=scales)
    with pytest.raises(ValueError, match="biases of MLX2 have 24 bytes, not 32"):
        source_of("MLX2", case, biases=good[:3])
    with pytest.raises(ValueError, match="scales of MLX2 have 64 bytes, not 32"):
        source_of("MLX2", case, scales=good.astype(np.float32))
    with pytest.raises(ValueError, match="MLX2 of kind None; there are F32, BF16, F16"):
        source_of("MLX2", case, kind=None)


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_mlx_scales_of_another_kind(kind: str, rng: np.random.Generator) -> None:
    """Scales have the dtype of the model that was converted."""
    case = case_of("MLX2", 17, 384, rng)
    case.scales = rng.integers(0, 128, case.scales.shape) * 2.0**-9
    arrays = {"scales": stored_as(case.scales, kind), "biases": stored_as(-case.scales, kind)}
    codes, problem = packing.pack_source(
        source_of("MLX2", case, kind=kind, **arrays), 2, layout="groups128"
    )
    assert problem is None
    assert_holds_groups(codes, case.t, case.scales_of("groups128"), "groups128")
    large = case.scales + 2.0**20
    beyond = {"scales": stored_as(large, kind), "biases": stored_as(-large, kind)}
    assert pack_problem(source_of("MLX2", case, kind=kind, **beyond), 1, "groups64") is Problem.HALF


def test_other_arguments_that_cannot_be(rng: np.random.Generator) -> None:
    weights = np.zeros((3, 70), np.float32)
    for group in (0, -64, 32, 100):
        with pytest.raises(ValueError, match=f"a group of {group} columns is no multiple of 64"):
            TernarySource("ternary_floats", weights, 3, 70, kind="F32", group=group)
    with pytest.raises(ValueError, match="840 bytes, not 420"):
        TernarySource("ternary_floats", weights, 3, 70, kind="F16")
    with pytest.raises(ValueError, match="pack_float"):
        TernarySource("masters", weights, 3, 70, kind="F32")
    with pytest.raises(KeyError):
        TernarySource("Q4_K", weights, 3, 70)


@pytest.mark.parametrize("layout", ["tiles", "groups64"])
def test_packed_rows_of_hugging_face_with_a_scale(layout: str, rng: np.random.Generator) -> None:
    t = rng.integers(-1, 2, (18, 100), np.int8)
    quarters = np.zeros((20, 100), np.uint8) + 1
    quarters[:18] = t + 1
    data = sum(quarters.reshape(4, 5, 100)[i] << 2 * i for i in range(4)).astype(np.uint8)
    source = TernarySource("hf_packed", data, 18, 100, scale=1.25)
    assert source.common_scale() == 1.25
    codes, problem = packing.pack_source(source, 2, layout=layout)
    assert problem is None
    if layout == "tiles":
        assert_same_bits(packing.unpack(codes, 18, 100), t)
    else:
        assert_holds_groups(codes, t, np.full((18, 2), 1.25), layout)
