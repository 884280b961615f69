"""Which tier runs, and what forcing one does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ryzanstein_llm.errors import UnsupportedIsaError
from ryzanstein_llm.kernels import cpu

TIERS = ("amx", "avx512vnni", "avxvnni", "avx2", "scalar")


def import_with(isa: str) -> subprocess.CompletedProcess[str]:
    code = "from ryzanstein_llm.kernels import cpu; print(cpu.current_tier(), cpu.forced_tier)"
    environment = {**os.environ, "RYZANSTEIN_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_scalar_tier_is_always_there_and_last() -> None:
    for found in (cpu.compiled_tiers(), cpu.available_tiers()):
        tiers = [name for name in found if name != cpu.forced_tier or name in TIERS]  # no emulation
        assert tiers[-1] == "scalar"
        assert tiers == [name for name in TIERS if name in tiers]  # best first
    assert set(cpu.available_tiers()) <= set(cpu.compiled_tiers())


def test_what_is_available_is_what_the_features_say() -> None:
    features = set(cpu.features())
    needs = {
        "avx2": {"avx2", "f16c"},
        "avxvnni": {"avx2", "f16c", "avxvnni"},
        "avx512vnni": {"avx2", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl",
                       "avx512vnni"},
        "scalar": set(),
    }  # fmt: skip
    needs["amx"] = needs["avx512vnni"] | {"amx-tile", "amx-int8"}
    able = {name for name in TIERS if name in cpu.compiled_tiers() and needs[name] <= features}
    assert set(cpu.available_tiers()) & set(TIERS) == able


def test_use_tier(tier: str) -> None:
    assert cpu.current_tier() == tier


def test_an_unknown_tier_is_refused_and_changes_nothing() -> None:
    before = cpu.current_tier()
    known = r"'sse9'.*are amx, avx512vnni, avxvnni, avx2, scalar$"
    with pytest.raises(UnsupportedIsaError, match=known):
        cpu.use_tier("sse9")
    assert cpu.current_tier() == before


def test_a_tier_the_cpu_or_build_lacks_is_refused() -> None:
    lacking = [name for name in TIERS if name not in cpu.available_tiers()]
    if not lacking:
        pytest.skip("this CPU runs every tier")
    for name in lacking:
        with pytest.raises(UnsupportedIsaError, match=name):
            cpu.use_tier(name)


def test_forcing_a_tier_by_the_environment() -> None:
    assert import_with("scalar").stdout.split() == ["scalar", "scalar"]
    assert import_with(" SCALAR ").stdout.split() == ["scalar", "scalar"]
    best = next(name for name in cpu.available_tiers() if name != "amx")  # which waits for a model
    assert import_with("").stdout.split() == [best, "None"]
    failed = import_with("bogus")
    assert failed.returncode != 0
    assert "RYZANSTEIN_ISA=bogus: unknown instruction-set tier" in failed.stderr
