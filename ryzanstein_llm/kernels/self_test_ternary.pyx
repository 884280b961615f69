# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Checks of ternary products and of the screen of the head; see self_test.pyx."""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_ACTIVATIONS_STRIDE, RZ_FEW_TOKENS, RZ_LINE_SUMS, RZ_LIST_STEP, RZ_SCREEN_BLOCK_BYTES, RZ_SCREEN_GROUP,
    RZ_SCREEN_ROWS, RZ_STORE_ADD, RZ_STORE_SET, RZ_TABLES_BYTES, RZ_TABLES_TOKENS, Table, rz_activations,
    rz_output_mode, rz_screen, rz_screen_inputs, rz_screen_logits)
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.self_test_data import (
    DISTINCT, floats, packed_codes, repeated, token_codes, valid_bytes)
from ryzanstein_llm.kernels.sources import TernarySource

SINGLE_TILES = ("tiles", "trits", "groups64", "groups128")  # layouts whose panels may have fewer than four tiles
PANEL_ROWS = 59              # four tiles of 16 rows, the last of which is not full
TOKENS = (1, 2, 3, 7, 19)    # few; and more than register tiles of 4, 6 and 16 hold


cdef void *at(array) except NULL:
    return <void *><size_t>array.ctypes.data


cdef float *floats_at(array) except NULL:
    return <float *>at(array)


cdef TernaryMatrix ternary(random, rows, columns, layout):
    if layout in packing.LAYOUTS:
        codes, _ = packing.pack_hf(packed_codes(random, rows, columns), rows, 1, layout=layout)
        return TernaryMatrix(codes, rows, columns, 0.0371, layout)
    wide = packing.GROUP_LAYOUTS[layout]
    groups = (columns + wide - 1) // wide
    data = valid_bytes(random, rows, groups * wide // 4)
    data[0], data[1 % rows] = 0xaa, 0x00
    data[:, columns // 4:] = 0x55
    scales = random.uniform(0, 0.1, (rows, groups)).astype(np.float16)
    source = TernarySource("MLX2", data, rows, groups * wide, kind="F16", scales=scales, biases=-scales)
    codes, problem = packing.pack_source(source, 1, layout=layout)
    if problem is not None:
        raise AssertionError(f"weights of the self-test: {problem!r}")
    return TernaryMatrix(codes, rows, columns, 1.0, layout)


def products(tables, multiply, tokens, TernaryMatrix w):
    """Outputs of `multiply(table, tokens, out, tile_end, add)` for several numbers of tokens, set and added; where a
    call may have less than a panel, also of a single tile."""
    rows, row_tiles = w.matrix.rows, w.matrix.row_tiles
    exact = np.empty((len(tokens), rows), np.float32)
    multiply(tables[1], tokens, exact, row_tiles, False)
    results = []
    for n in TOKENS:
        for end, add in ((row_tiles, False), (1 if w.layout in SINGLE_TILES else row_tiles, True)):
            out = np.full((2, n, rows), 0.25, np.float32)
            multiply(tables[0], repeated(tokens, n), out[0], end, add)
            width = min(16 * end, rows)
            out[1, :, :width] = out[1, :, :width] * add + repeated(exact, n)[:, :width]
            results.append(out)
    return results


cdef rz_activations activations(codes, scales, sums, groups):
    cdef rz_activations x
    x.codes, x.scales, x.sums = <const int8_t *>at(codes), floats_at(scales), <const int32_t *>at(sums)
    x.tables, x.stride, x.n, x.groups = NULL, codes.shape[1], len(codes), groups
    return x


def check_ternary_matmul(tables, random, use):
    rows = min(use.rows, PANEL_ROWS)
    cdef TernaryMatrix w = ternary(random, rows, use.columns, use.which)

    def multiply(Table table, codes, out, int64_t end, bint add):
        cdef rz_output_mode store = RZ_STORE_ADD if add else RZ_STORE_SET
        scales = 0.01 + np.arange(len(codes), dtype=np.float32) % DISTINCT
        sums = codes.sum(axis=1, dtype=np.int32)
        cdef rz_activations x = activations(codes, scales, sums, 1)
        scratch = packing.aligned_empty(table.kernels.product_scratch(use.columns, x.n))
        if use.which == "tables" and table.kernels.ternary_tables != NULL and x.n <= RZ_TABLES_TOKENS and not add:
            looked_up = sums_of_triples(table, codes, use.columns)
            x.tables = <const uint8_t *>at(looked_up)
        table.kernels.ternary_matmul(&w.matrix, 0, end, &x, floats_at(out), out.shape[1], store, at(scratch))

    return products(tables, multiply, token_codes(random, use.columns, RZ_ACTIVATIONS_STRIDE(use.columns)), w)


def sums_of_triples(Table table, codes, int64_t columns):
    found = packing.aligned_empty(len(codes) * RZ_TABLES_BYTES(columns)).reshape(len(codes), -1)
    for token, out in zip(codes, found):
        table.kernels.ternary_tables(<const int8_t *>at(token), columns, <uint8_t *>at(out))
    return found


def check_ternary_tables(tables, random, use):
    """The scalar tier has no such kernel, so this compares with the definition: low + 31 * high."""
    cdef Table table = tables[0]
    if table.kernels.ternary_tables == NULL:
        return []
    codes = token_codes(random, use.columns, RZ_ACTIVATIONS_STRIDE(use.columns))
    found = sums_of_triples(table, codes, use.columns).view(np.int8).reshape(DISTINCT, -1, 2, 16).astype(np.int32)
    triples = codes[:, :3 * found.shape[1]].reshape(DISTINCT, -1, 1, 3)
    number = np.arange(14) + 13
    digits = np.stack((number % 3, number // 3 % 3, number // 9), axis=1).astype(np.int32) - 1
    expected = np.zeros((DISTINCT, found.shape[1], 16), np.int32)
    expected[..., :14] = (triples * digits).sum(axis=3)
    return [np.stack((found[:, :, 0] + 31 * found[:, :, 1], expected))]


def check_group_matmul(tables, random, use):
    rows, wide = min(use.rows, PANEL_ROWS), packing.GROUP_LAYOUTS[use.which]
    cdef TernaryMatrix w = ternary(random, rows, use.columns, use.which)
    groups = (use.columns + wide - 1) // wide
    scales = random.uniform(0.001, 1, (DISTINCT, groups)).astype(np.float32)

    def multiply(Table table, codes, out, int64_t end, bint add):
        cdef rz_output_mode store = RZ_STORE_ADD if add else RZ_STORE_SET
        here = repeated(scales, len(codes))
        sums = codes[:, :groups * wide].reshape(len(codes), groups, wide).sum(axis=2, dtype=np.int32)
        cdef rz_activations x = activations(codes, here, sums, groups)
        scratch = packing.aligned_empty(table.kernels.product_scratch(use.columns, x.n))
        table.kernels.group_matmul(&w.matrix, 0, end, &x, floats_at(out), out.shape[1], store, at(scratch))

    return products(tables, multiply, token_codes(random, use.columns, RZ_ACTIVATIONS_STRIDE(use.columns)), w)


def check_group_matmul_floats(tables, random, use):
    rows = min(use.rows, PANEL_ROWS)
    cdef TernaryMatrix w = ternary(random, rows, use.columns, use.which)

    def multiply(Table table, x, out, int64_t end, bint add):
        cdef rz_output_mode store = RZ_STORE_ADD if add else RZ_STORE_SET
        scratch = packing.aligned_empty(table.kernels.product_scratch(use.columns, <int64_t>len(x)))
        table.kernels.group_matmul_floats(&w.matrix, 0, end, floats_at(x), x.shape[1], len(x), floats_at(out),
                                          out.shape[1], store, at(scratch))

    return products(tables, multiply, floats(random, 3, use.columns), w)


def check_ternary_rows(tables, random, use):
    rows = min(use.rows, PANEL_ROWS)
    cdef TernaryMatrix w = ternary(random, rows, use.columns, use.which)
    cdef rz_activations x
    listed = np.unique(random.integers(0, rows, 2 * RZ_LIST_STEP, np.int32))
    codes = token_codes(random, use.columns, RZ_ACTIVATIONS_STRIDE(use.columns))
    scales, sums = np.arange(1, 5, dtype=np.float32), codes.sum(axis=1, dtype=np.int32)
    out = np.full((2, RZ_FEW_TOKENS, DISTINCT, rows), 0.25, np.float32)
    for i, table in enumerate(tables):
        for n in range(1, RZ_FEW_TOKENS + 1):
            x = activations(codes[:n], scales, sums, 1)
            (<Table>table).kernels.ternary_rows(&w.matrix, <const int32_t *>at(listed), len(listed), &x,
                                                floats_at(out[i, n - 1]), rows)
    return [out]


def check_ternary_columns(tables, random, use):
    """Few whole columns; and as many columns as a token can have, of a few rows."""
    whole = ternary(random, use.rows, min(use.columns, 64), use.which)
    short = ternary(random, min(use.rows, PANEL_ROWS), min(use.columns, 64), use.which)
    few = random.integers(-127, 128, (RZ_FEW_TOKENS + 2, 4 * RZ_LIST_STEP), np.int8)
    most = np.full((1, -(-use.columns // RZ_LIST_STEP) * RZ_LIST_STEP), 127, np.int8)
    return [*(column_sums(tables, random, whole, few[:n]) for n in range(1, len(few) + 1)),
            column_sums(tables, random, short, most)]


def check_ternary_columns_finish(tables, random, use):
    """Of sums that are 0 in the form of every tier; `check_ternary_columns` has others."""
    whole = ternary(random, use.rows, RZ_LIST_STEP, use.which)
    return [column_sums(tables, random, whole, np.zeros((1, 2 * RZ_LIST_STEP), np.int8))]


def column_sums(tables, random, TernaryMatrix w, values):
    """Products of listed columns, in two parts. values: int8 (n, columns of the list)."""
    cdef int64_t n = values.shape[0], count = values.shape[1], half = count // 2 // RZ_LIST_STEP * RZ_LIST_STEP
    cdef int64_t rows = w.matrix.rows, part, t
    cdef const int32_t *parts[2]
    cdef rz_activations x
    listed = random.integers(0, w.columns, count, np.int32)
    codes, scales = np.zeros((n, 1), np.int8), np.arange(1, n + 1, dtype=np.float32)
    totals = values.sum(axis=1, dtype=np.int32)
    out = np.full((2, 2, n, rows), 0.25, np.float32)
    sums = packing.aligned_empty(8 * n * w.matrix.run_lines * RZ_LINE_SUMS).view(np.int32).reshape(2, -1)
    parts[0], parts[1] = <const int32_t *>at(sums[0]), <const int32_t *>at(sums[1])
    x = activations(codes, scales, totals, 1)
    for i, table in enumerate(tables):
        sums[:] = 0
        for part in range(2):
            (<Table>table).kernels.ternary_columns(
                &w.matrix, <const int32_t *>at(listed[part * half:]), count - half if part else half,
                <const int8_t *>at(values[:, part * half:]), count, n, <int32_t *>at(sums[part]))
        for t in range(n):
            for store in (RZ_STORE_SET, RZ_STORE_ADD):
                (<Table>table).kernels.ternary_columns_finish(
                    &w.matrix, parts, 2, &x, t, 0, rows, floats_at(out[i, <int>store, t]), store)
    return out


def check_screen(tables, random, use):
    cdef int64_t groups = (use.columns + RZ_SCREEN_GROUP - 1) // RZ_SCREEN_GROUP
    cdef rz_screen head
    cdef rz_screen_inputs x
    cdef rz_screen_logits to
    blocks = packing.aligned_empty(RZ_SCREEN_BLOCK_BYTES(groups))
    blocks[:] = random.integers(0, 256, blocks.size, np.uint8)
    blocks[:RZ_SCREEN_ROWS * groups] &= 127
    stats = random.uniform(0, 1, (3, RZ_SCREEN_ROWS)).astype(np.float32)
    head.blocks, head.groups, head.row_tiles = <const uint8_t *>at(blocks), groups, RZ_SCREEN_ROWS // 16
    head.scales, head.errors, head.norms = floats_at(stats[0]), floats_at(stats[1]), floats_at(stats[2])
    codes = token_codes(random, groups * RZ_SCREEN_GROUP, groups * RZ_SCREEN_GROUP)
    scales = random.uniform(0, 1, (DISTINCT, groups)).astype(np.float32)
    exact = None
    results = []
    for n in (DISTINCT, *TOKENS):
        here, factors = repeated(codes, n), repeated(scales, n)
        offsets = -32 * here.reshape(n, groups, RZ_SCREEN_GROUP).sum(axis=2, dtype=np.int32)
        sizes = repeated(np.arange(2 * DISTINCT, dtype=np.float32).reshape(DISTINCT, 2), n).T.copy()
        x.codes, x.scales, x.offsets = <int8_t *>at(here), floats_at(factors), <int32_t *>at(offsets)
        x.size, x.rest = floats_at(sizes[0]), floats_at(sizes[1])
        logits, bounds = np.empty((4, n, 16), np.float32), np.empty((2, n, 4), np.float32)
        to.logits, to.most_lower, to.most_upper = floats_at(logits), floats_at(bounds[0]), floats_at(bounds[1])
        (<Table>tables[exact is None]).kernels.screen(&head, 0, 1, &x, n, &to)
        found = np.concatenate((logits.transpose(1, 0, 2).reshape(n, -1), *bounds), axis=1)
        if exact is None:
            exact = found
        else:
            results.append(np.stack((found, repeated(exact, n))))
    return results
