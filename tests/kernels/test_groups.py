"""Products of matrices with scales of groups, against the order of operations of kernels.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ryzanstein_llm.kernels.linear import norm_gated, norm_project
from ryzanstein_llm.kernels.packing import GROUP_LAYOUTS, pack_source
from ryzanstein_llm.kernels.sources import TernarySource
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.kernels.workspace import Workspace

from . import steps
from .same_bits import assert_same_bits
from .ternary_cases import random_case

pytestmark = pytest.mark.usefixtures("tier")

Float32 = npt.NDArray[np.float32]

ROWS = (1, 16, 17, 64, 65, 130)  # row tiles are 16, panels 64
COLUMNS = (1, 63, 64, 65, 128, 129, 511, 512, 513, 700, 1100)  # panels are 512
TOKENS = (1, 2, 3, 4, 5, 6, 7, 13, 36, 37, 45)  # register tiles are 4 and 6
EPS = 1e-6


class Case:
    """A random matrix with scales, and its products, one operation after the other as kernels.h
    orders them."""

    def __init__(self, rows: int, columns: int, layout: str, seed: int = 0) -> None:
        rng = np.random.default_rng([rows, columns, seed])
        self.wide, self.layout = GROUP_LAYOUTS[layout], layout
        self.groups = -(-columns // self.wide)
        self.t = rng.integers(-1, 2, (rows, columns), np.int8)
        half = rng.uniform(0.001, 2, (rows, self.groups)).astype(np.float16)
        half[rng.random(half.shape) < 0.1] = 0
        self.scales = half.astype(np.float32)
        self.t[np.repeat(half == 0, self.wide, axis=1)[:, :columns]] = 0
        # a group needs one weight that is not zero, or its scale could not be told
        first = np.arange(self.groups) * self.wide
        self.t[:, first] = np.where(half > 0, 1, 0)

    def matrix(self, quantization: str | None = None) -> TernaryMatrix:
        """The kernels' form, packed from float16 weights. Columns fill a whole group."""
        rows, columns = self.t.shape
        padded = np.zeros((rows, self.groups * self.wide), np.float16)
        padded[:, :columns] = self.t * np.repeat(self.scales, self.wide, axis=1)[:, :columns]
        source = TernarySource(
            "ternary_floats", padded, rows, padded.shape[1], kind="F16", group=self.wide
        )
        codes, problem = pack_source(source, 1, layout=self.layout)
        assert problem is None
        return TernaryMatrix(codes, rows, columns, 1.0, self.layout, quantization)

    def parts(self, values: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
        return np.split(values, np.arange(self.wide, values.shape[1], self.wide), axis=1)

    def product(self, codes: list[npt.NDArray[np.int8]], scales: Float32) -> Float32:
        """codes by group, scales (n, groups)."""
        y = np.zeros((len(scales), len(self.t)), np.float32)
        for g, (weights, values) in enumerate(zip(self.parts(self.t), codes, strict=True)):
            sums = values.astype(np.int64) @ weights.T.astype(np.int64)
            y = y + sums.astype(np.float32) * (scales[:, g, None] * self.scales[:, g])
        return y

    def by_group(self, x: Float32) -> Float32:
        quantized = [steps.quantize(part) for part in self.parts(x)]
        scales = np.stack([scale for _, scale in quantized], axis=1)
        return self.product([codes for codes, _ in quantized], scales)

    def by_token(self, x: Float32) -> Float32:
        codes, scales = steps.quantize(x)
        return self.product(self.parts(codes), np.repeat(scales[:, None], self.groups, axis=1))

    def floats(self, x: Float32) -> Float32:
        y = np.zeros((len(x), len(self.t)), np.float32)
        for g, (weights, values) in enumerate(zip(self.parts(self.t), self.parts(x), strict=True)):
            total = np.zeros_like(y)
            for column in range(weights.shape[1]):
                total = total + values[:, column, None] * weights[:, column].astype(np.float32)
            y = y + total * self.scales[:, g]
        return y


def project(
    matrix: TernaryMatrix, x: Float32, n_threads: int = 1, start: float = np.nan
) -> Float32:
    out = np.full((len(x), matrix.rows), start, np.float32)
    norm_project(x, None, EPS, [matrix], [out], Workspace(n_threads), accumulate=start == start)
    return out


def expected(case: Case, x: Float32, quantization: str) -> Float32:
    product = {"group": case.by_group, "token": case.by_token, "none": case.floats}
    return product[quantization](x)


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_every_size_with_a_tail(columns: int, layout: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((max(TOKENS), columns), np.float32)
    for rows in ROWS:
        case = Case(rows, columns, layout)
        wanted = case.by_group(x)
        for tokens in TOKENS if rows in (17, 130) else (1, 7):
            assert_same_bits(project(case.matrix(), x[:tokens]), wanted[:tokens])


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("quantization", ["group", "token", "none"])
def test_each_way_to_take_activations(
    quantization: str, layout: str, rng: np.random.Generator
) -> None:
    case = Case(65, 333, layout)
    x = rng.standard_normal((7, 333), np.float32) * np.float32(3)
    for tokens in (1, 2, 7):
        found = project(case.matrix(quantization), x[:tokens])
        assert_same_bits(found, expected(case, x[:tokens], quantization))


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_largest_sums(sign: int, layout: str) -> None:
    """All activations at ±127 against weights of one sign: no sum of 16 bits overflows."""
    case = Case(33, 640, layout)
    case.t[:] = sign
    case.scales[:] = 1.5
    x = np.full((9, 640), 127.0, np.float32)
    x[1::2] = -127.0
    for tokens in (1, 2, 9):
        assert_same_bits(project(case.matrix(), x[:tokens]), case.by_group(x[:tokens]))


@pytest.mark.parametrize("quantization", ["group", "none"])
def test_adds_to_a_residual_stream_and_shares_rows_among_threads(
    quantization: str, rng: np.random.Generator
) -> None:
    case = Case(300, 257, "groups64")
    x = rng.standard_normal((3, 257), np.float32)
    wanted = np.float32(0.1) + expected(case, x, quantization)
    for n_threads in (1, 2, 3):
        assert_same_bits(project(case.matrix(quantization), x, n_threads, 0.1), wanted)


def test_a_gated_block_multiplies_panels_of_gate_and_up(rng: np.random.Generator) -> None:
    gate, up = Case(133, 200, "groups128", 1), Case(133, 200, "groups128", 2)
    x = rng.standard_normal((5, 200), np.float32)
    out = np.empty((5, 133), np.float32)
    norm_gated(x, None, EPS, gate.matrix(), up.matrix(), "relu2", out, Workspace(2))
    opened = np.maximum(gate.by_group(x), np.float32(0))
    assert_same_bits(out, np.where(opened > 0, opened * opened * up.by_group(x), np.float32(0)))


def test_rows_can_be_looked_up() -> None:
    case = Case(40, 130, "groups64")
    ids = np.array([39, 0, 7, 7])
    wanted = case.t * np.repeat(case.scales, 64, axis=1)[:, :130]
    assert_same_bits(case.matrix().look_up(ids) + np.float32(0), wanted[ids].astype(np.float32))
    with pytest.raises(ValueError, match="40"):
        case.matrix().look_up(np.array([40]))


def test_matrices_of_one_input_agree_on_its_quantisation(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 128), np.float32)
    narrow, wide = Case(16, 128, "groups64").matrix(), Case(16, 128, "groups128").matrix()
    single, _ = random_case(16, 128)
    out = np.empty((1, 16), np.float32)
    for other in (wide, single, Case(16, 128, "groups64").matrix("none")):
        with pytest.raises(ValueError, match="quantisation"):
            norm_project(x, None, EPS, [narrow, other], [out, out], Workspace(1))


def test_what_a_layout_cannot_have_is_refused() -> None:
    matrix, _ = random_case(16, 128)
    with pytest.raises(ValueError, match="'group'"):
        TernaryMatrix(matrix.codes, 16, 128, 1.0, "tiles", "group")
    codes = Case(16, 128, "groups64").matrix().codes
    with pytest.raises(ValueError, match="scale"):
        TernaryMatrix(codes, 16, 128, 0.5, "groups64")
    with pytest.raises(ValueError, match="'row'"):
        TernaryMatrix(codes, 16, 128, 1.0, "groups64", "row")
