"""Leaving out what squared ReLU makes irrelevant: equal bits, and only what is needed is read.
In two bits a weight, and with five weights a byte."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels.decoder import decoder_layers
from ryzanstein_llm.kernels.decoder_layer import DecoderLayer
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.kernels.workspace import Workspace

from . import steps
from .block_cache import BlockCache, BlockLayout, rotary
from .same_bits import assert_same_bits
from .ternary_cases import matrix_of

pytestmark = pytest.mark.usefixtures("tier")

EPS = 1e-5
FORMATS = {
    "none": ("tiles", "tiles"),
    "2bit": ("rows", "columns"),
    "1.6bit": ("trit_rows", "trit_columns"),
}
SKIPPING = ["2bit", "1.6bit"]
HEADS, HEAD_DIM = 2, 4
WIDTH = (HEADS + 2) * HEAD_DIM


class Block:
    """A layer whose attention adds nothing (o is all zeros), so that the feed-forward block stands
    alone: hidden += down @ int8(norm(relu2(gate @ a) * (up @ a))), a = int8(norm(hidden))."""

    def __init__(self, hidden: int, ffn: int, seed: int = 0, gate: np.ndarray | None = None):
        rng = np.random.default_rng([hidden, ffn, seed])
        self.gate, self.up = rng.integers(-1, 2, (2, ffn, hidden), np.int8)
        self.down = rng.integers(-1, 2, (hidden, ffn), np.int8)
        if gate is not None:
            self.gate = gate
        self.hidden, self.ffn = hidden, ffn

    def layer(self, skipping: str, activation: str = "relu2") -> DecoderLayer:
        def none(rows: int, columns: int) -> TernaryMatrix:
            return matrix_of(np.zeros((rows, columns), np.int8))

        hidden, q_width = self.hidden, HEADS * HEAD_DIM
        up, down = FORMATS[skipping]
        return DecoderLayer(
            np.ones(hidden, np.float32), none(q_width, hidden), none(HEAD_DIM, hidden),
            none(HEAD_DIM, hidden), None, none(hidden, q_width), np.ones(hidden, np.float32),
            matrix_of(self.gate, 0.03), matrix_of(self.up, 0.04, up), activation,
            np.ones(self.ffn, np.float32), matrix_of(self.down, 0.05, down), EPS,
        )  # fmt: skip

    def run(self, x: np.ndarray, skipping: str, n_threads: int = 1, activation: str = "relu2",
            layers: int = 1) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:  # fmt: skip
        """(hidden states after it, gated activations, what `Workspace.skipping` counted)."""
        n = len(x)
        layout = BlockLayout("float32", kv_heads=1, head_dim=HEAD_DIM, layers=layers)
        cache, workspace = BlockCache(layout, n), Workspace(n_threads)
        out = x.copy()
        gated = np.full((n, self.ffn), np.nan, np.float32)
        decoder_layers(
            out, [self.layer(skipping, activation)] * layers, 0, [(n, 0, cache.table)], layout,
            HEADS, [rotary(HEAD_DIM, n)], 0.5, np.empty((n, WIDTH), np.float32),
            np.empty((n, HEADS * HEAD_DIM), np.float32), gated, workspace,
        )  # fmt: skip
        return out, gated, workspace.skipping


SIZES = [
    (16, 16),
    (100, 70),
    (256, 64),
    (300, 257),
    (64, 1000),
    (700, 1030),
    (1000, 40),
    (1200, 70),
]


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 7, 11, 16, 33])
@pytest.mark.parametrize("size", SIZES)
def test_equal_to_the_dense_layout(
    skipping: str, size: tuple[int, int], tokens: int, rng: np.random.Generator
) -> None:
    block = Block(*size)
    x = rng.standard_normal((tokens, size[0]), np.float32)
    dense = block.run(x, "none")
    found = block.run(x, skipping)
    assert_same_bits(found[0], dense[0])
    assert_same_bits(found[1], dense[1])
    assert dense[2] == (0, 0, 0, 0)


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("tokens", [1, 3])
def test_against_the_definition(skipping: str, tokens: int, rng: np.random.Generator) -> None:
    """In NumPy, from the values of the weights: also which rows and columns are needed."""
    block = Block(300, 257)
    x = rng.standard_normal((tokens, 300), np.float32)
    codes, scales = steps.quantize(steps.rms_norm(x, np.ones(300, np.float32), EPS))
    gates = steps.ternary_product(codes, scales, block.gate, 0.03)
    ups = steps.ternary_product(codes, scales, block.up, 0.04)
    gated = np.where(gates <= 0, np.float32(0), steps.relu2(gates) * ups)
    down_codes, down_scales = steps.quantize(steps.rms_norm(gated, np.ones(257, np.float32), EPS))
    wanted = x + steps.ternary_product(down_codes, down_scales, block.down, 0.05)
    found = block.run(x, skipping)
    assert_same_bits(found[0], wanted)
    assert_same_bits(found[1], gated)
    rows, columns = (gates > 0).any(axis=0).sum(), (down_codes != 0).any(axis=0).sum()
    assert found[2] == (rows, 257, columns, 257)
    assert 0 < columns < rows < 257


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("tokens", [4, 9])
def test_columns_that_no_token_of_a_batch_needs(skipping: str, tokens: int) -> None:
    """Tiers differ in how many tokens still leave columns out, and not in the result."""
    hidden, ffn = 300, 1030
    gate = np.full((ffn, hidden), -1, np.int8)
    gate[::3] = 1
    block = Block(hidden, ffn, gate=gate)
    x = np.linspace(0.5, 1.5, tokens * hidden, dtype=np.float32).reshape(tokens, hidden)
    dense, found = block.run(x, "none", n_threads=2), block.run(x, skipping, n_threads=2)
    assert_same_bits(found[0], dense[0])
    read, seen = found[2][2:]
    assert (read, seen) == (0, 0) or (seen == ffn and 0 < read <= len(gate[::3]))


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_threads_do_not_matter(skipping: str, n_threads: int, rng: np.random.Generator) -> None:
    block = Block(300, 1030)
    x = rng.standard_normal((2, 300), np.float32)
    one, many = (block.run(x, skipping, n_threads=n, layers=3) for n in (1, n_threads))
    assert_same_bits(many[0], one[0])
    assert many[2] == one[2]


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_all_none_and_few_gates_open(skipping: str, share: float) -> None:
    hidden, ffn = 256, 300
    gate = np.full((ffn, hidden), -1, np.int8)
    gate[: round(share * ffn)] = 1
    block = Block(hidden, ffn, gate=gate)
    x = np.linspace(0.5, 1.5, hidden, dtype=np.float32)[None]
    dense, found = block.run(x, "none"), block.run(x, skipping)
    assert_same_bits(found[0], dense[0])
    assert found[2][:2] == (round(share * ffn), ffn)
    if share == 0:
        assert found[2][2] == 0
        assert_same_bits(found[0], x)


@pytest.mark.parametrize("skipping", SKIPPING)
@pytest.mark.parametrize("tokens", [1, 4])
def test_a_column_of_the_largest_sums(skipping: str, tokens: int) -> None:
    """65,536 activations of 127 against weights of +1, -1 and 0: the fourth bit pair, unshifted,
    comes within a factor of two of the end of int32, digits of five within a hundredth."""
    hidden, ffn = 256, 65536
    block = Block(hidden, ffn, gate=np.ones((ffn, hidden), np.int8))
    block.up[:] = 1
    block.down[:] = 1
    block.down[1::3] = -1
    block.down[2::3] = 0
    x = np.ones((tokens, hidden), np.float32)
    found = block.run(x, skipping, n_threads=2)
    assert found[2] == (ffn, ffn, ffn, ffn) or tokens > 3
    assert_same_bits(found[0], block.run(x, "none")[0])
    scale = (found[0][0, 0] - 1) / (ffn * 127)
    assert np.isclose(scale, 0.05 / 127, rtol=1e-3)  # the norm makes every value 1


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("skipping", SKIPPING)
def test_a_row_of_the_largest_sums(skipping: str, tokens: int) -> None:
    """262,144 activations of 127 against rows of +1, -1, and 0: with five weights a byte, lanes of
    the narrowest vectors come within a hundredth of the end of int32."""
    hidden, ffn = 262144, 6
    block = Block(hidden, ffn, gate=np.ones((ffn, hidden), np.int8))
    block.up[:2], block.up[2:4], block.up[4:] = 1, -1, 0
    x = np.ones((tokens, hidden), np.float32)
    dense, found = block.run(x, "none"), block.run(x, skipping)
    assert found[2][:2] == (ffn, ffn)
    assert_same_bits(found[1], dense[1])
    signs = np.array([1, 1, -1, -1, 0, 0], np.float32)
    assert found[1][0, 0] > 0
    assert (found[1] == found[1][0, 0] * signs).all()


@pytest.mark.parametrize("skipping", SKIPPING)
def test_nan_is_not_left_out(skipping: str) -> None:
    block = Block(256, 300)
    x = np.ones((1, 256), np.float32)
    x[0, 3] = np.nan
    assert np.isnan(block.run(x, skipping)[0]).any()
    assert np.isnan(block.run(x, "none")[0]).any()


@pytest.mark.parametrize("skipping", SKIPPING)
def test_other_activations_have_nothing_to_skip(skipping: str, rng: np.random.Generator) -> None:
    """SiLU is nowhere exactly zero; matrices laid out for skipping still serve it."""
    block = Block(256, 300)
    x = rng.standard_normal((1, 256), np.float32)
    dense, found = (block.run(x, skipping, activation="silu") for skipping in ("none", skipping))
    assert_same_bits(found[0], dense[0])
    assert found[2][:2] == (0, 0)
