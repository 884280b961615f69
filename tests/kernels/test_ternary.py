"""Ternary products are exact: the integer sum, then two multiplications, nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels.linear import norm_gated, norm_project
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.kernels.workspace import Workspace

from . import steps
from .same_bits import assert_same_bits
from .ternary_cases import LAYOUTS, matrix_of, random_case

pytestmark = pytest.mark.usefixtures("tier")

ROWS = (1, 5, 16, 17, 63, 64, 65, 100, 300)  # row tiles are 16, panels 64, lines 256
# tiles are 16, 20 and 24, panels 480 and 512; what is looked up is widened after 6144
COLUMNS = (1, 3, 15, 16, 17, 21, 25, 63, 64, 65, 100, 232, 481, 511, 512, 513, 5460, 6169)
TOKENS = (*range(1, 14), 20, 21, 64, 65)  # register tiles are 4, 6 and 10
EPS = 1e-5


def project(matrix: TernaryMatrix, x: np.ndarray, n_threads: int = 1) -> np.ndarray:
    """matrix @ int8(x), without a norm."""
    out = np.full((len(x), matrix.rows), np.nan, np.float32)
    norm_project(x, None, EPS, [matrix], [out], Workspace(n_threads))
    return out


def expected(matrix: TernaryMatrix, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    return steps.ternary_product(*steps.quantize(x), t, matrix.scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_every_size_with_a_tail(columns: int, layout: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((max(TOKENS), columns), np.float32)
    codes, scales = steps.quantize(x)
    for rows in ROWS:
        matrix, t = random_case(rows, columns, layout=layout)
        wanted = steps.ternary_product(codes, scales, t, matrix.scale)
        for tokens in TOKENS if rows in (1, 65, 100) else (1, 2, 7):
            assert_same_bits(project(matrix, x[:tokens]), wanted[:tokens])


@pytest.mark.parametrize("tokens", [1, 2, 5])
@pytest.mark.parametrize("columns", [2560, 6912, 28672])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight", [-1, 0, 1, None], ids=["all-1", "all0", "all+1", "alternating"])
def test_largest_sums_of_long_columns(
    weight: int | None, columns: int, tokens: int, layout: str
) -> None:
    """All activations at ±127 against all codes at an end: 127 * columns, and no saturation."""
    sign = np.where(np.arange(columns) % 2, -1, 1).astype(np.int8)
    t = np.tile(sign, (33, 1)) if weight is None else np.full((33, columns), weight, np.int8)
    matrix = matrix_of(t, layout=layout)
    for activation in (np.full(columns, 127), np.full(columns, -127), 127 * sign):
        x = np.tile(activation.astype(np.float32), (tokens, 1))
        sums = np.sum(t.astype(np.int64) * activation.astype(np.int64), axis=1)
        assert_same_bits(project(matrix, x), np.tile(sums.astype(np.float32), (tokens, 1)))


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"columns", "trit_columns"}))
@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_longest_columns_there_may_be(tokens: int, layout: str) -> None:
    """262,144 columns: partial sums come within a factor of two of the end of int32; where they
    would come further, they are widened in time."""
    columns = 262144
    t = np.ones((3, columns), np.int8)
    t[1] = -1
    t[2, ::2] = -1
    for activation in (127.0, -127.0):
        x = np.full((tokens, columns), activation, np.float32)
        sums = np.array([columns * activation, -columns * activation, 0], np.float32)
        assert_same_bits(project(matrix_of(t, layout=layout), x), np.tile(sums, (tokens, 1)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_column_meets_its_own_weight(layout: str) -> None:
    """A single non-zero weight and distinct activations: no permutation of columns or rows."""
    columns, rows = 130, 40
    x = np.zeros((2, columns), np.float32)
    x[0] = np.arange(columns) - 64
    x[0, 0] = 127  # largest value 127: codes are the values
    x[1] = 127 - np.arange(columns) % 100
    for column in (0, 1, 4, 15, 16, 63, 64, 127, 129):
        t = np.zeros((rows, columns), np.int8)
        t[column % rows, column] = 1
        wanted = np.zeros((2, rows), np.float32)
        wanted[:, column % rows] = x[:, column]
        assert_same_bits(project(matrix_of(t, layout=layout), x), wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokens", [1, 2, 6, 9])
def test_accumulate_adds_to_the_residual(
    tokens: int, layout: str, rng: np.random.Generator
) -> None:
    for rows in (16, 65, 100):
        matrix, t = random_case(rows, 100, layout=layout)
        x = rng.standard_normal((tokens, 100), np.float32)
        residual = rng.standard_normal((tokens, rows), np.float32)
        out = residual.copy()
        norm_project(x, None, EPS, [matrix], [out], Workspace(1), accumulate=True)
        assert_same_bits(out, residual + expected(matrix, t, x))


@pytest.mark.parametrize("tokens", [1, 5])
def test_several_matrices_share_one_norm(tokens: int, rng: np.random.Generator) -> None:
    """q, k and v at once, each into its own columns of one row with an odd stride."""
    layouts = ("tiles", "tables", "trits", "tables")
    cases = [
        random_case(rows, 96, seed, layout)
        for seed, (rows, layout) in enumerate(zip((100, 20, 33, 1), layouts, strict=True))
    ]
    x = rng.standard_normal((tokens, 96), np.float32)
    gain = rng.standard_normal(96, np.float32)
    held = np.full((tokens, 161), np.nan, np.float32)
    parts = np.split(held, [3, 103, 123, 156, 157], axis=1)
    outputs = parts[1:-1]
    norm_project(x, gain, EPS, [matrix for matrix, _ in cases], outputs, Workspace(2))
    codes, scales = steps.quantize(steps.rms_norm(x, gain, EPS))
    for out, (matrix, t) in zip(outputs, cases, strict=True):
        assert_same_bits(out, steps.ternary_product(codes, scales, t, matrix.scale))
    assert np.isnan(parts[0]).all()
    assert np.isnan(parts[-1]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokens", [1, 4])
def test_unaligned_input_and_output(tokens: int, layout: str, rng: np.random.Generator) -> None:
    matrix, t = random_case(65, 100, layout=layout)
    held = rng.standard_normal(tokens * 100 + 4, np.float32)
    for offset in (1, 2, 3):
        x = held[offset : offset + tokens * 100].reshape(tokens, 100)
        room = np.full(tokens * 65 + 2 * offset, np.nan, np.float32)
        out = room[offset:-offset].reshape(tokens, 65)
        norm_project(x, None, EPS, [matrix], [out], Workspace(1))
        assert_same_bits(out, expected(matrix, t, x))
        assert np.isnan(room[:offset]).all()
        assert np.isnan(room[-offset:]).all()


def test_rounding_ties_of_activations() -> None:
    """Half-way activations round to even before they meet the weights."""
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5]], np.float32)
    codes = np.array([127, 0, 2, 2, 0, -2, -2, 126, -126])
    t = np.eye(9, dtype=np.int8)
    assert_same_bits(project(matrix_of(t), x)[0], codes.astype(np.float32))


@pytest.mark.parametrize("layouts", [("tiles", "tiles"), ("trits", "trits"), ("tiles", "tables")])
@pytest.mark.parametrize("columns", [64, 100])
@pytest.mark.parametrize("tokens", [1, 2, 5, 13, 65])
def test_gated_is_gate_then_up(
    tokens: int, columns: int, layouts: tuple[str, str], rng: np.random.Generator
) -> None:
    x = rng.standard_normal((tokens, columns), np.float32)
    gain = rng.standard_normal(columns, np.float32)
    codes, scales = steps.quantize(steps.rms_norm(x, gain, EPS))
    for rows in (1, 16, 64, 100, 130):
        gate, gate_t = random_case(rows, columns, 1, layouts[0])
        up, up_t = random_case(rows, columns, 2, layouts[1])
        out = np.full((tokens, rows), np.nan, np.float32)
        norm_gated(x, gain, EPS, gate, up, "relu2", out, Workspace(1))
        wanted = steps.relu2(steps.ternary_product(codes, scales, gate_t, gate.scale))
        wanted *= steps.ternary_product(codes, scales, up_t, up.scale)
        assert_same_bits(out, np.where(wanted == 0, np.float32(0), wanted))  # no -0 of closed gates


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gated_with_other_activations(activation: str, rng: np.random.Generator) -> None:
    from ryzanstein_llm.kernels.elementwise import activate

    x = rng.standard_normal((3, 100), np.float32)
    (gate, gate_t), (up, up_t) = random_case(70, 100, 1), random_case(70, 100, 2)
    out = np.full((3, 70), np.nan, np.float32)
    norm_gated(x, None, EPS, gate, up, activation, out, Workspace(1))
    codes, scales = steps.quantize(x)
    gates = steps.ternary_product(codes, scales, gate_t, gate.scale)
    ups = steps.ternary_product(codes, scales, up_t, up.scale)
    assert_same_bits(out, activate(activation, gates.ravel(), ups.ravel()).reshape(out.shape))
