"""One wheel for every x86-64 CPU: the compiled modules hold plain x86-64, except the functions of
a tier's file, and those hold no more than what dispatch.c asks of a CPU before it chooses them."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from pathlib import Path

import pytest
from disassembly import code_by_source, instructions, refused

from ryzanstein_llm import kernels
from ryzanstein_llm.kernels import cpu

pytestmark = pytest.mark.skipif(
    sys.platform != "linux"
    or platform.machine() != "x86_64"
    or not (shutil.which("objdump") and shutil.which("as")),
    reason="needs x86-64 Linux and the binutils",
)

MODULES = sorted(Path(kernels.__path__[0]).glob("*.so"))
BASELINE = "generic64"
# The features dispatch.c asks for, in the assembler's words. They bring in what every such CPU
# has: AVX2 the earlier vector extensions and popcnt.
TIERS = {
    "scalar": BASELINE,
    "avx2": f"{BASELINE}+avx2+f16c",
    "avxvnni": f"{BASELINE}+avx2+f16c+avx_vnni",
    "avx512vnni": f"{BASELINE}+avx2+f16c+avx512f+avx512bw+avx512dq+avx512vl+avx512_vnni",
}
TIERS["amx"] = f"{TIERS['avx512vnni']}+amx_tile+amx_int8"
# For tests: the code of the amx tier around tile registers that are emulated. The other emulation
# is plain x86-64.
EMULATION = "amx_avx512.c"
# Asks whether the operating system keeps the wide registers; cpu_features.h runs it only
# where CPUID says that it exists.
ASKED_FOR_FIRST = {"xgetbv"}


@pytest.mark.parametrize(
    "text",
    [
        "addps %xmm0,%xmm1",
        "cvttpd2dq %xmm0,%xmm1",
        "prefetcht0 (%rdi)",
        "call 0x0",
        "rep stos %al,%es:(%rdi)",
    ],
)
def test_the_judge_accepts_plain_x86_64(text: str) -> None:
    assert refused([text], BASELINE) == []


@pytest.mark.parametrize(
    "text",
    [
        "haddps %xmm0,%xmm1",
        "pshufb %xmm0,%xmm1",
        "pmulld %xmm0,%xmm1",
        "popcnt %rax,%rbx",
        "lzcnt %rax,%rbx",
        "andn %rax,%rbx,%rcx",
        "movbe (%rdi),%eax",
        "cmpxchg16b (%rdi)",
        "vaddps %xmm0,%xmm1,%xmm2",
        "vpaddd %ymm0,%ymm1,%ymm2",
        "vfmadd231ps %ymm0,%ymm1,%ymm2",
        "vpdpbusd %zmm0,%zmm1,%zmm2",
    ],
)
def test_the_judge_refuses_extensions(text: str) -> None:
    assert refused(["nop", text], BASELINE) == [text]


def test_the_judge_tells_tiers_apart() -> None:
    texts = ["vpdpbusd %zmm0,%zmm1,%zmm2", "{vex} vpdpbusd %ymm0,%ymm1,%ymm2"]
    texts += ["vpdpbusd %ymm0,%ymm1,%ymm17", "vcvtph2ps %xmm0,%ymm1"]
    assert refused(texts, TIERS["avx2"]) == sorted(texts[:3])
    assert refused(texts, TIERS["avxvnni"]) == sorted([texts[0], texts[2]])
    assert refused(texts, TIERS["avx512vnni"]) == [texts[1]]
    tiles = ["tdpbsud %tmm6,%tmm4,%tmm0", "tileloadd (%rax,%rcx,1),%tmm4"]
    assert refused(tiles, TIERS["avx512vnni"]) == tiles
    assert refused([*tiles, "tdpbf16ps %tmm6,%tmm4,%tmm0"], TIERS["amx"]) == [
        "tdpbf16ps %tmm6,%tmm4,%tmm0"
    ]
    assert refused(["vfmadd231ps %ymm0,%ymm1,%ymm2"], TIERS["avx2"])


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.partition(".")[0])
def test_outside_the_tiers_all_is_plain_x86_64(module: Path) -> None:
    tiers = [
        addresses
        for source, functions in code_by_source(module).items()
        if source.removesuffix(".c") in TIERS or source == EMULATION
        for addresses in functions
    ]
    outside = [
        text
        for address, text in instructions(module).items()
        if text not in ASKED_FOR_FIRST and not any(address in addresses for addresses in tiers)
    ]
    assert len(outside) > 100
    assert refused(outside, BASELINE) == []
    assert bool(tiers) == module.name.startswith("cpu.")


def code_of(functions: list[range], module: Path) -> list[str]:
    """The instructions of some functions."""
    return [
        text
        for address, text in instructions(module).items()
        if any(address in addresses for addresses in functions)
    ]


@pytest.mark.parametrize("tier", cpu.compiled_tiers())
def test_a_tier_holds_what_it_is_chosen_for_and_no_more(tier: str) -> None:
    (module,) = [module for module in MODULES if module.name.startswith("cpu.")]
    functions = code_by_source(module)[f"{tier}.c"]
    texts = code_of(functions, module)
    assert refused(texts, TIERS[tier]) == []
    # Were the functions not those of the tier, the line above would be true of too little.
    others = [other for other in TIERS if other != tier and TIERS[tier] not in TIERS[other]]
    assert len(functions) >= (15 if tier == "amx" else 20)  # amx has most of another tier
    assert tier == "scalar" or all(refused(texts, TIERS[other]) for other in others)


@pytest.mark.skipif("amx" not in cpu.compiled_tiers(), reason="this build has no amx tier")
def test_tile_registers_keep_their_roles() -> None:
    """C, A and B of every product are the registers of ternary/amx.h (of limits/amx.h: 6 and 7 are
    A and B), and each way in ends with a release."""
    (module,) = [module for module in MODULES if module.name.startswith("cpu.")]
    functions = code_by_source(module)["amx.c"]
    per_function = [code_of([addresses], module) for addresses in functions]
    texts = [text for each in per_function for text in each]
    found = [
        tuple(int(register) for register in re.findall(r"%tmm(\d)", text))
        for text in texts
        if text.startswith("tdp")
    ]
    products = {(b, a, c) for b, a, c in found if (a, b) != (6, 7)}
    assert {(6, 4, 0), (7, 4, 1), (6, 5, 2), (7, 5, 3), (6, 4, 2), (7, 4, 3)} == products
    assert {c for b, a, c in found if (a, b) == (6, 7)} == set(range(6))
    # products of two kinds, the screen, the limit
    assert sum("tilerelease" in each for each in per_function) == 4
    with_tiles = [text for text in texts if "tmm" in text]
    assert {text.split()[0] for text in with_tiles} == {
        "tdpbsud", "tileloadd", "tilestored", "tilezero"
    }  # fmt: skip


@pytest.mark.skipif("avx512vnni" not in cpu.compiled_tiers(), reason="this build has no AVX-512")
def test_the_emulation_has_no_tile_registers() -> None:
    (module,) = [module for module in MODULES if module.name.startswith("cpu.")]
    texts = code_of(code_by_source(module)[EMULATION], module)
    assert len(texts) > 1000
    assert refused(texts, TIERS["avx512vnni"]) == []
