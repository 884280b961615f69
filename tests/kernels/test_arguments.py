"""Arguments that do not fit are refused, and the message names what does not fit what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ryzanstein_llm.kernels import attention, elementwise, packing
from ryzanstein_llm.kernels.linear import norm_dense, norm_gated, norm_project
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.kernels.workspace import Workspace

from .block_cache import BlockCache, BlockLayout
from .ternary_cases import matrix_of, random_case

F = np.float32


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, F)


def refused(match: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    with pytest.raises(ValueError, match=match):
        call(*arguments, **named)


def test_ternary_matrix() -> None:
    tiles, _ = packing.pack_hf(np.zeros((5, 40), np.uint8), 20, 1)
    refused("20 x 48000000", TernaryMatrix, tiles, 20, 48000000, 1.0)
    refused("0 x 40", TernaryMatrix, tiles, 0, 40, 1.0)
    refused(r"\(2, 3, 64\) do not hold 33 x 40", TernaryMatrix, tiles, 33, 40, 1.0)
    refused(r"do not hold 20 x 50", TernaryMatrix, tiles, 20, 50, 1.0)
    refused("int8", TernaryMatrix, tiles.view(np.int8), 20, 40, 1.0)
    moved = np.empty(tiles.size + 65, np.uint8)
    moved = moved[-moved.ctypes.data % 64 + 1 :][: tiles.size].reshape(tiles.shape)
    refused("64-byte aligned", TernaryMatrix, moved, 20, 40, 1.0)
    reversed_tiles = tiles[:, ::-1]
    refused("contiguous", TernaryMatrix, reversed_tiles, 20, 40, 1.0)


def test_ternary_matrix_describes_itself() -> None:
    t = np.array([[1, 0, -1], [-1, -1, 1]], np.int8)
    matrix = matrix_of(t, 0.25)
    assert (matrix.rows, matrix.columns, matrix.scale, matrix.nbytes) == (2, 3, 0.25, 64)
    assert np.array_equal(matrix.dense(), t)
    assert repr(matrix) == "TernaryMatrix(2 x 3, scale 0.25, tiles)"


def test_norm_project() -> None:
    matrix, _ = random_case(20, 32)
    workspace = Workspace(1)

    def project(x: Any, norm: Any, outputs: list[Any], matrices: list[Any] | None = None) -> None:
        norm_project(x, norm, 1e-5, [matrix] if matrices is None else matrices, outputs, workspace)

    good, out = zeros(3, 32), zeros(3, 20)
    refused(r"TernaryMatrix\(20 x 32.*33 columns", project, zeros(3, 33), None, [out])
    refused(r"\(3, 20\).*\(2, 20\)", project, good, None, [zeros(2, 20)])
    refused(r"\(3, 20\).*\(3, 21\)", project, good, None, [zeros(3, 21)])
    refused("expected .float. but got .double.", project, good, None, [np.zeros((3, 20))])
    refused("unit stride", project, good, None, [zeros(3, 40)[:, ::2]])
    refused("unit stride", project, good, None, [zeros(20, 3).T])
    read_only = zeros(3, 20)
    read_only.flags.writeable = False
    refused("read-only", project, good, None, [read_only])
    refused("31 weights does not fit 32 columns", project, good, zeros(31), [out])
    refused("1 matrices and 2 outputs", project, good, None, [out, out])
    refused("0 matrices", project, good, None, [], [])
    refused("9 matrices", project, good, None, [out] * 9, [matrix] * 9)
    refused("dtype", project, np.zeros((3, 32)), None, [out])
    refused("contiguous", project, zeros(32, 3).T, None, [out])
    refused("dimensions", project, zeros(3, 32, 1), None, [out])
    project(zeros(0, 32), None, [zeros(0, 20)])  # no tokens: nothing to do


def test_norm_gated() -> None:
    (gate, _), (up, _) = random_case(20, 32), random_case(20, 32, 1)
    other, _ = random_case(21, 32)
    workspace = Workspace(1)

    def gated(x: Any, second: Any, out: Any, norm: Any = None) -> None:
        norm_gated(x, norm, 1e-5, gate, second, "silu", out, workspace)

    refused(r"20 x 32.*21 x 32.*differ", gated, zeros(2, 32), other, zeros(2, 20))
    refused(r"\(2, 33\)", gated, zeros(2, 33), up, zeros(2, 20))
    refused(r"\(2, 21\)", gated, zeros(2, 32), up, zeros(2, 21))
    refused(r"\(3, 20\)", gated, zeros(2, 32), up, zeros(3, 20))
    refused("33 weights does not fit 32 columns", gated, zeros(2, 32), up, zeros(2, 20), zeros(33))
    refused("dtype", gated, np.zeros((2, 32)), up, zeros(2, 20))
    gated(zeros(0, 32), up, zeros(0, 20))


def test_norm_dense() -> None:
    workspace = Workspace(1)

    def dense(x: Any, w: Any, out: Any, kind: str = "F32", norm: Any = None) -> None:
        norm_dense(x, norm, 1e-5, w, kind, out, workspace)

    x, w, out = zeros(2, 10), zeros(7, 10), zeros(2, 7)
    refused(r"weights of shape \(7, 11\).*\(2, 10\)", dense, x, zeros(7, 11), out)
    refused(r"output of shape \(2, 8\)", dense, x, w, zeros(2, 8))
    refused(r"output of shape \(3, 7\)", dense, x, w, zeros(3, 7))
    refused("do not fit", dense, x, zeros(10, 7).T, out)
    refused("float32 are not BF16", dense, x, w, out, "BF16")
    refused("float16 are not F32", dense, x, w.astype(np.float16), out)
    refused("9 weights does not fit 10 columns", dense, x, w, out, norm=zeros(9))
    dense(zeros(0, 10), w, zeros(0, 7))


def test_attention() -> None:
    layout = BlockLayout("float32", kv_heads=2, head_dim=16)
    cache = BlockCache(layout, 300)
    workspace = Workspace(1)

    def attend(qkv: Any, segments: Any, out: Any, stored: Any = layout, rotary: Any = None,
               heads: int = 4) -> None:  # fmt: skip
        tables = (zeros(300, 8), zeros(300, 8)) if rotary is None else rotary
        attention.rope_append_attend(qkv, segments, stored, 0, heads, tables, 0.25, out, workspace)

    qkv, out = zeros(3, 8 * 16), zeros(3, 4 * 16)
    attend(qkv, [(3, 0, cache.table)], out)
    refused("width 112 does not fit 4 heads", attend, zeros(3, 7 * 16), [(3, 0, cache.table)], out)
    refused("does not fit 3 heads", attend, zeros(3, 7 * 16), [(3, 0, cache.table)], out, heads=3)
    refused(r"output has shape \(2, 64\); 3 rows", attend, qkv, [(3, 0, cache.table)], zeros(2, 64))
    refused(r"output has shape \(3, 65\)", attend, qkv, [(3, 0, cache.table)], zeros(3, 65))
    refused("have 4 rows together, qkv has 3", attend, qkv, [(4, 0, cache.table)], out)
    refused("1 to 256 sequences, not 0", attend, qkv, [], out)
    refused("not 257", attend, zeros(257, 128), [(1, 0, cache.table)] * 257, zeros(257, 64))
    refused("0 rows at position 5", attend, qkv, [(0, 5, cache.table)], out)
    refused("position -1", attend, qkv, [(3, -1, cache.table)], out)
    refused("255 does not fit 1 cache blocks", attend, qkv, [(3, 255, cache.table[:1])], out)
    refused("300 is beyond.*ends at 299", attend, qkv, [(3, 298, cache.table)], out)
    for tables in ((zeros(300, 8), zeros(299, 8)), (zeros(300, 7), zeros(300, 7))):
        refused("rotary tables", attend, qkv, [(3, 0, cache.table)], out, rotary=tables)
    for head_dim in (15, 1026):
        odd = BlockLayout("float32", kv_heads=2, head_dim=head_dim)
        wide, room = zeros(1, 8 * head_dim), zeros(1, 4 * head_dim)
        refused(f"head_dim {head_dim}", attend, wide, [(1, 0, cache.table)], room, odd)


def test_packing() -> None:
    refused(r"\(5, 10\) does not hold 21 rows", packing.pack_hf, np.zeros((5, 10), np.uint8), 21, 1)
    refused("does not hold 16 rows", packing.pack_hf, np.zeros((5, 10), np.uint8), 16, 1)
    refused("does not hold", packing.pack_hf, np.zeros((0, 10), np.uint8), 0, 1)
    refused("does not hold", packing.pack_hf, np.zeros((5, 0), np.uint8), 20, 1)
    refused("contiguous", packing.pack_float, zeros(6, 8)[:, ::2], "F32", 1)
    refused("contiguous", packing.pack_float, zeros(6, 8).T, "F32", 1)
    refused("float16 are not F32", packing.pack_float, np.zeros((6, 8), np.float16), "F32", 1)
    refused("float32 are not BF16", packing.pack_float, zeros(6, 8), "BF16", 1)
    refused(r"\(0, 8\)", packing.pack_float, zeros(0, 8), "F32", 1)
    tiles, _ = packing.pack_hf(np.zeros((5, 40), np.uint8), 20, 1)
    refused("do not hold 33 x 40", packing.unpack, tiles, 33, 40)


def test_elementwise() -> None:
    x = zeros(10)
    refused("9 weights do not fit 10 values", elementwise.rms_norm, x, zeros(9), 1e-5)
    refused("11 weights and 10 biases do not fit 10", elementwise.layer_norm, x, zeros(11), x, 1e-5)
    refused("10 weights and 9 biases do not fit 10", elementwise.layer_norm, x, x, zeros(9), 1e-5)
    refused("9 values of `up` do not fit 10 values", elementwise.activate, "silu", x, zeros(9))
    refused("3 cosines and 3 sines .* 8", elementwise.rope, zeros(2, 8), zeros(3), zeros(3))
    refused("heads of 7", elementwise.rope, zeros(2, 7), zeros(3), zeros(3))
    refused("4 cosines", elementwise.rope, zeros(2, 8), zeros(4), zeros(3))
    for call in (elementwise.exp, elementwise.quantize, elementwise.softmax_weights):
        refused("dtype", call, np.zeros(10))
        refused("contiguous", call, zeros(20)[::2])


def test_workspace() -> None:
    refused("at least 1, not 0", Workspace, 0)
    refused("dtype", Workspace(1).use_cancel_flag, np.zeros(1, np.int64))
