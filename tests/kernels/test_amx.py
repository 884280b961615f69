"""The amx tier on CPUs without AMX: its code with tile registers that are emulated in C.

`amx-emulated` is the machine code of the tier but for these, and needs AVX-512; `amx-portable` runs
on every CPU. The registers are compared with the pseudo code of Intel's manual (SDM vol. 2:
LDTILECFG, TILELOADD, TILESTORED, TDPBSUD), and products with NumPy.

`RYZANSTEIN_ISA=amx-emulated python -m pytest` runs all other tests with the fixture `tier` too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from ryzanstein_llm.errors import UnsupportedIsaError
from ryzanstein_llm.kernels import cpu, packing
from ryzanstein_llm.kernels.head import ScreenedHead
from ryzanstein_llm.kernels.linear import norm_gated, norm_project
from ryzanstein_llm.kernels.workspace import Workspace

from . import steps
from .group_cases import GROUP_LAYOUTS
from .same_bits import assert_same_bits
from .ternary_cases import LAYOUTS, matrix_of, random_case
from .test_groups import Case
from .test_screen import stored

LIBRARY = ctypes.CDLL(cpu.__file__)
EMULATIONS = ["amx-portable"]
if "avx512vnni" in cpu.available_tiers():
    EMULATIONS.append("amx-emulated")
EPS = 1e-5
FEW_TOKENS = (4, 5, 6, 8, 11, 12, 15, 16)  # in one block; below 5, 8 or 12 the base multiplies
MANY_TOKENS = (17, 31, 32, 33, 47, 48, 49, 64, 65, 81)  # blocks of 32, and what is left


def products() -> int:
    """How many times this thread has multiplied emulated tiles."""
    counters = ("rz_emulated_products_amx_portable", "rz_emulated_products_amx_avx512")
    found = [getattr(LIBRARY, name) for name in counters if hasattr(LIBRARY, name)]
    for counter in found:
        counter.restype = ctypes.c_int64
    return sum(counter() for counter in found)


@pytest.fixture(params=EMULATIONS)
def emulated(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a test under an emulated tier, and makes sure that tiles were multiplied."""
    former, before = cpu.current_tier(), products()
    cpu.use_tier(request.param)
    yield
    cpu.use_tier(former)
    assert products() > before


# ---- tile registers ---------------------------------------------------------------------------


class Tiles:
    """The emulated registers of this thread."""

    def __init__(self, rows: list[int], row_bytes: list[int]) -> None:
        shapes = np.zeros(64, np.uint8)  # palette, start row, 14 reserved; 16 words; 16 bytes
        shapes[0] = 1
        shapes[16:48].view(np.uint16)[: len(row_bytes)] = row_bytes
        shapes[48 : 48 + len(rows)] = rows
        LIBRARY.rz_emulated_configure(shapes.ctypes.data_as(ctypes.c_void_p))

    def load(self, tile: int, values: np.ndarray) -> None:
        at, stride = ctypes.c_void_p(values.ctypes.data), ctypes.c_int64(values.strides[0])
        LIBRARY.rz_emulated_load(tile, at, stride)

    def store(self, tile: int, out: np.ndarray) -> None:
        at, stride = ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(out.strides[0])
        LIBRARY.rz_emulated_store(tile, at, stride)

    def clear(self, tile: int) -> None:
        LIBRARY.rz_emulated_clear(tile)

    def multiply(self, c: int, a: int, b: int) -> None:
        LIBRARY.rz_emulated_multiply(c, a, b)


def tdpbsud(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The manual's loops: c int32 (m, n), a int8 (m, 4 * k), b uint8 (k, 4 * n)."""
    out = c.astype(np.int64)
    for m in range(c.shape[0]):
        for k in range(b.shape[0]):
            for n in range(c.shape[1]):
                for j in range(4):
                    out[m, n] += int(a[m, 4 * k + j]) * int(b[k, 4 * n + j])
    return out.astype(np.uint64).astype(np.uint32).view(np.int32)  # the sums wrap around


@pytest.mark.parametrize(
    ("m", "k", "n"), [(16, 16, 16), (1, 16, 16), (5, 3, 7), (16, 1, 2), (9, 16, 1)]
)
def test_products_are_those_of_the_manual(m: int, k: int, n: int, rng) -> None:
    tiles = Tiles([m, 1, 1, 1, m, 1, k], [4 * n, 4, 4, 4, 4 * k, 4, 4 * n])
    c = rng.integers(-(2**31), 2**31, (m, n), np.int64).astype(np.int32)
    a = rng.integers(-128, 128, (m, 4 * k), np.int8)
    b = rng.integers(0, 256, (k, 4 * n), np.uint8)
    a[0], b[0] = -128, 255  # ends of both ranges: the signs are not mixed up
    for values, tile in ((c, 0), (a, 4), (b, 6)):
        tiles.load(tile, values)
    tiles.multiply(0, 4, 6)
    out = np.empty((m, n), np.int32)
    tiles.store(0, out)
    assert_same_bits(out, tdpbsud(c, a, b))


def test_loads_and_stores_keep_to_rows_and_strides(rng) -> None:
    tiles = Tiles([3, 16], [12, 64])
    held = rng.integers(0, 256, (3, 40), np.uint8)
    tiles.load(0, held)
    room = np.full((5, 29), 7, np.uint8)
    tiles.store(0, room)
    assert_same_bits(room[:3, :12], held[:, :12])
    assert (room[3:] == 7).all()
    assert (room[:, 12:] == 7).all()
    tiles.clear(0)
    tiles.store(0, room)
    assert not room[:3, :12].any()


def test_a_configuration_forgets_what_was_in_the_registers(rng) -> None:
    held = rng.integers(1, 256, (16, 64), np.uint8)
    Tiles([16], [64]).load(0, held)
    out = np.empty((16, 64), np.uint8)
    Tiles([16], [64]).store(0, out)
    assert not out.any()


FAULTS = {
    "no configuration": "L.rz_emulated_clear(0)",
    "released": "shape([16], [64]); L.rz_emulated_release(); L.rz_emulated_clear(0)",
    "a register without rows": "shape([16], [64]); L.rz_emulated_clear(1)",
    "another palette": "shape([16], [64], 2)",
    "17 rows": "shape([17], [64])",
    "65 bytes": "shape([16], [65])",
    "rows without bytes": "shape([16], [0])",
    "c is a": "shape([16] * 3, [64] * 3); L.rz_emulated_multiply(0, 0, 1)",
    "a is b": "shape([16] * 3, [64] * 3); L.rz_emulated_multiply(0, 1, 1)",
    "rows of c and a": "shape([16, 15, 16], [64] * 3); L.rz_emulated_multiply(0, 1, 2)",
    "columns of c and b": "shape([16] * 3, [60, 64, 64]); L.rz_emulated_multiply(0, 1, 2)",
    "columns of a, rows of b": "shape([16] * 3, [64, 60, 64]); L.rz_emulated_multiply(0, 1, 2)",
}
PRELUDE = """
import ctypes, struct
from ryzanstein_llm.kernels import cpu
L = ctypes.CDLL(cpu.__file__)
def shape(rows, row_bytes, palette=1):
    rows, row_bytes = rows + [0] * (16 - len(rows)), row_bytes + [0] * (16 - len(row_bytes))
    L.rz_emulated_configure(struct.pack("<B15x16H16B", palette, *row_bytes, *rows))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a signal")
@pytest.mark.parametrize("what", FAULTS)
def test_what_the_cpu_refuses_the_emulation_refuses(what: str) -> None:
    import signal

    done = subprocess.run([sys.executable, "-c", PRELUDE + FAULTS[what]], check=False)
    assert done.returncode == -signal.SIGABRT


# ---- products ---------------------------------------------------------------------------------


def project(matrix, x: np.ndarray, n_threads: int = 1, start: float = np.nan) -> np.ndarray:
    out = np.full((len(x), matrix.rows), start, np.float32)
    norm_project(x, None, EPS, [matrix], [out], Workspace(n_threads), accumulate=start == start)
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 255, 257, 319, 321, 384, 400, 640, 641, 1300])
def test_every_size_with_a_tail(columns: int, layout: str, emulated: None, rng) -> None:
    """B tiles are 64 columns, parts 256 to 384 and 640; row tiles are 16, and four go together."""
    x = rng.standard_normal((max(MANY_TOKENS), columns), np.float32)
    codes, scales = steps.quantize(x)
    for rows in (1, 16, 17, 64, 65, 100, 300):
        matrix, t = random_case(rows, columns, layout=layout)
        wanted = steps.ternary_product(codes, scales, t, matrix.scale)
        for tokens in (*FEW_TOKENS, *MANY_TOKENS) if rows in (17, 100) else (7, 16, 40):
            assert_same_bits(project(matrix, x[:tokens]), wanted[:tokens])


@pytest.mark.parametrize("tokens", [12, 40])
@pytest.mark.parametrize("columns", [6912, 32768])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight", [-1, 0, 1])
def test_largest_sums(weight: int, columns: int, tokens: int, layout: str, emulated: None) -> None:
    """All activations at ±127 against weights of one sign, in the widest matrix that is opened."""
    t = np.full((33, columns), weight, np.int8)
    matrix = matrix_of(t, layout=layout)
    for activation in (127, -127):
        x = np.full((tokens, columns), activation, np.float32)
        wanted = np.full((tokens, 33), weight * activation * columns, np.float32)
        assert_same_bits(project(matrix, x), wanted)


@pytest.mark.parametrize("tier", EMULATIONS)
def test_a_wider_matrix_goes_another_way(tier: str, rng) -> None:
    """Past 32,768 columns the base multiplies: the bits are the same."""
    former, before = cpu.current_tier(), products()
    cpu.use_tier(tier)
    matrix, t = random_case(20, 32769, layout="trits")
    x = rng.standard_normal((20, 32769), np.float32)
    found = project(matrix, x)
    cpu.use_tier(former)
    assert_same_bits(found, steps.ternary_product(*steps.quantize(x), t, matrix.scale))
    assert products() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_column_meets_its_own_weight(layout: str, emulated: None) -> None:
    """A single weight that is not zero and distinct activations: nothing is permuted."""
    columns, rows, tokens = 700, 40, 35
    x = np.zeros((tokens, columns), np.float32)
    for token in range(tokens):
        x[token] = (np.arange(columns) * (token + 3)) % 127
    x[:, 0] = 127  # the largest value: codes are the values
    for column in (0, 3, 4, 15, 63, 64, 255, 256, 319, 320, 640, 699):
        t = np.zeros((rows, columns), np.int8)
        t[column % rows, column] = 1
        wanted = np.zeros((tokens, rows), np.float32)
        wanted[:, column % rows] = x[:, column]
        assert_same_bits(project(matrix_of(t, layout=layout), x), wanted)


@pytest.mark.parametrize("tokens", [13, 16, 39])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_adds_to_a_residual_stream_and_shares_rows_among_threads(
    layout: str, tokens: int, emulated: None, rng
) -> None:
    matrix, t = random_case(300, 500, layout=layout)
    x = rng.standard_normal((tokens, 500), np.float32)
    product = steps.ternary_product(*steps.quantize(x), t, matrix.scale)
    for n_threads in (1, 2, 3):
        assert_same_bits(project(matrix, x, n_threads, 0.1), np.float32(0.1) + product)


@pytest.mark.parametrize("tokens", [5, 20])
def test_unaligned_output(tokens: int, emulated: None, rng) -> None:
    matrix, t = random_case(65, 100, layout="trits")
    x = rng.standard_normal((tokens, 100), np.float32)
    wanted = steps.ternary_product(*steps.quantize(x), t, matrix.scale)
    for offset in (1, 2, 3):
        room = np.full(tokens * 65 + 2 * offset, np.nan, np.float32)
        out = room[offset:-offset].reshape(tokens, 65)
        norm_project(x, None, EPS, [matrix], [out], Workspace(1))
        assert_same_bits(out, wanted)
        assert np.isnan(room[:offset]).all()
        assert np.isnan(room[-offset:]).all()


@pytest.mark.parametrize("tokens", [6, 16, 50])
def test_gated_is_gate_then_up(tokens: int, emulated: None, rng) -> None:
    x = rng.standard_normal((tokens, 700), np.float32)
    codes, scales = steps.quantize(x)
    (gate, gate_t), (up, up_t) = (
        random_case(130, 700, 1, "trits"),
        random_case(130, 700, 2, "trit_rows"),
    )
    out = np.full((tokens, 130), np.nan, np.float32)
    norm_gated(x, None, EPS, gate, up, "relu2", out, Workspace(1))
    wanted = steps.relu2(steps.ternary_product(codes, scales, gate_t, gate.scale))
    wanted *= steps.ternary_product(codes, scales, up_t, up.scale)
    assert_same_bits(out, np.where(wanted == 0, np.float32(0), wanted))


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("columns", [1, 64, 65, 128, 129, 511, 700, 1100])
def test_groups(columns: int, layout: str, emulated: None, rng) -> None:
    x = rng.standard_normal((max(MANY_TOKENS), columns), np.float32)
    for rows in (1, 16, 17, 65, 130):
        case = Case(rows, columns, layout)
        wanted = case.by_group(x)
        for tokens in (7, 8, 15, 16, 17, 33, 81) if rows in (17, 130) else (9, 20):
            assert_same_bits(project(case.matrix(), x[:tokens]), wanted[:tokens])


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_largest_sums_of_groups(sign: int, layout: str, emulated: None) -> None:
    case = Case(33, 640, layout)
    case.t[:], case.scales[:] = sign, 1.5
    x = np.full((20, 640), 127.0, np.float32)
    x[1::2] = -127.0
    assert_same_bits(project(case.matrix(), x), case.by_group(x))
    assert_same_bits(project(case.matrix(), x, 2, 0.5), np.float32(0.5) + case.by_group(x))


@pytest.mark.parametrize("tokens", [4, 5, 6, 15, 16, 17, 31, 32, 33, 49, 70])
@pytest.mark.parametrize(("rows", "columns"), [(130, 64), (300, 67), (64, 256)])
def test_the_screen_of_the_head(rows: int, columns: int, tokens: int, rng) -> None:
    """Bounds and rows that are left are those of the scalar tier, bit for bit."""
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, "BF16")
    hidden = rng.standard_normal((tokens, columns)).astype(np.float32)
    head, former, found = ScreenedHead(weights, "BF16", 1), cpu.current_tier(), []
    for tier in ("scalar", *EMULATIONS):
        cpu.use_tier(tier)
        workspace, before = Workspace(1), products()
        likeliest = head.likeliest(hidden, None, EPS, workspace, 3)
        assert (products() > before) == (tier != "scalar" and tokens >= 5)
        found.append((*head.bounds(workspace), *(part for pair in likeliest for part in pair)))
    cpu.use_tier(former)
    for other in found[1:]:
        assert_same_bits(other, found[0])


# ---- permission -------------------------------------------------------------------------------


def run_python(code: str, isa: str = "amx-portable") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RYZANSTEIN_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


REFUSED = f"""
import logging
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.kernels import cpu
logging.basicConfig(format="%(message)s")
cpu._request = lambda index: {errno.ENOSPC}
"""


def test_the_permission_is_asked_for_when_a_model_opens() -> None:
    done = run_python(
        "from ryzanstein_llm import BitNetModel, cpu_info\n"
        "from ryzanstein_llm.kernels import cpu\n"
        "before = cpu.current_tier()\n"
        "model = BitNetModel()\n"
        "tiers = cpu.current_tier(), cpu_info()['tier'], model.info()['tier']\n"
        "print(before != 'amx-portable', *tiers)"
    )
    assert done.stdout.split() == ["True", *["amx-portable"] * 3], done.stderr


def test_cpu_info_asks_too() -> None:
    done = run_python("import ryzanstein_llm; print(ryzanstein_llm.cpu_info()['tier'])")
    assert done.stdout.split() == ["amx-portable"], done.stderr


def test_a_forced_tier_that_is_refused_is_an_error() -> None:
    done = run_python(f"{REFUSED}BitNetModel()")
    assert done.returncode == 1
    problem = "the operating system does not let this process use tier 'amx-portable'"
    assert f"UnsupportedIsaError: RYZANSTEIN_ISA=amx-portable: {problem}" in done.stderr
    assert "alternate signal stack of less than the" in done.stderr


def test_where_it_is_refused_the_next_tier_stays() -> None:
    done = run_python(
        f"{REFUSED}cpu.forced_tier = None\n"
        "before = cpu.current_tier()\n"
        "BitNetModel(), BitNetModel()\n"
        "print(before == cpu.current_tier() == cpu.available_tiers()[0])"
    )
    assert done.stdout.split() == ["True"], done.stderr
    assert done.stderr.count("does not let this process use tier 'amx-portable'") == 1


def test_a_refused_tier_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cpu.current_tier()
    monkeypatch.setattr(cpu, "_request", lambda index: errno.EPERM)
    with pytest.raises(UnsupportedIsaError, match=r"does not let this process.*not permitted"):
        cpu.use_tier("amx-portable")
    assert cpu.current_tier() == before


def test_the_emulation_is_listed_only_if_it_is_named() -> None:
    code = "from ryzanstein_llm.kernels import cpu; print('amx-portable' in cpu.available_tiers())"
    assert run_python(code).stdout.split() == ["True"]
    assert run_python(code, "scalar").stdout.split() == ["False"]
    assert run_python(code, "").stdout.split() == ["False"]


SMALL_STACK = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(65536)
stack = Stack(ctypes.addressof(memory), 0, 8192)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
from ryzanstein_llm import BitNetModel
print(BitNetModel().info()["tier"])
"""


@pytest.mark.skipif("amx-tile" not in cpu.features(), reason="needs a CPU with AMX")
def test_small_signal_stacks_leave_the_next_tier() -> None:
    assert run_python(SMALL_STACK, "").stdout.split() == ["avx512vnni"]
    forced = run_python(SMALL_STACK, "amx")
    assert "UnsupportedIsaError: RYZANSTEIN_ISA=amx: " in forced.stderr


def test_all_layouts_are_among_the_cases() -> None:
    assert {*LAYOUTS, *GROUP_LAYOUTS} == {*packing.LAYOUTS, *packing.GROUP_LAYOUTS}
