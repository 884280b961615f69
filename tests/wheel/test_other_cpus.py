"""The same installation on CPUs that are not here, under QEMU's user-mode emulation: it imports,
picks the tier that CPU can run, and gives the same tale and the same bits of logits.

No CPU older than Nehalem (2008), the first with all of x86-64-v2: wheels of NumPy 2.4 need that.
What of ours would fail on older ones is the business of test_instruction_sets.py. QEMU 7.2 emulates
AVX2, no AVX-512, no VNNI and no AMX.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

QEMU = shutil.which("qemu-x86_64")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (Debian: qemu-user)"),
]

SCRIPT = """
import hashlib, json, numpy, ryzanstein_llm
info = ryzanstein_llm.cpu_info()
with ryzanstein_llm.BitNetModel(n_threads=2) as model:
    logits = model.forward(model.tokenize("The fox looked upon the king"))
    print(json.dumps({
        "tier": info["tier"],
        "has_avx2": ryzanstein_llm.has_avx2(),
        "tale": model.generate("Once upon a time", max_tokens=24),
        "logits": hashlib.sha256(numpy.ascontiguousarray(logits)).hexdigest(),
    }))
"""


def tell(*emulator: str, isa: str = "") -> dict[str, Any]:
    """What the script finds, on this CPU or an emulated one, with a forced tier or the best one."""
    # Settings for the CPU that is here would make libraries use what the other one lacks.
    foreign = ("OPENBLAS_", "NPY_", "RYZANSTEIN_", "GLIBC_TUNABLES", "MKL_")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(foreign)
    }
    environment["RYZANSTEIN_ISA"] = isa
    result = subprocess.run(
        [*emulator, sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    return tell()


@pytest.mark.parametrize(
    ("machine", "tier"),
    [
        pytest.param("Nehalem", "scalar", id="x86-64-v2"),
        pytest.param("SandyBridge", "scalar", id="AVX without AVX2"),
        pytest.param("Haswell", "avx2", id="AVX2"),
        pytest.param("Haswell,-f16c", "scalar", id="AVX2 without F16C"),
        pytest.param("Haswell,-xsave", "scalar", id="AVX2, not saved by the operating system"),
    ],
)
def test_another_cpu_tells_the_same_tale(machine: str, tier: str, here: dict[str, Any]) -> None:
    assert QEMU
    there = tell(QEMU, "-cpu", machine)
    assert there == {**here, "tier": tier, "has_avx2": tier == "avx2"}
    assert len(there["tale"]) > 40


def test_the_portable_emulation_of_amx_tells_it_on_a_cpu_without_avx2(here: dict[str, Any]) -> None:
    assert QEMU
    there = tell(QEMU, "-cpu", "Nehalem", isa="amx-portable")
    assert there == {**here, "tier": "amx-portable", "has_avx2": False}
