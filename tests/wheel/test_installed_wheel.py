"""A release wheel where it is installed: its tag, what is in it, the runtime it brings.

Skips unless the package was installed from a wheel that auditwheel has repaired; `.ci/run`
makes one, installs it away from the sources, and lets nothing here skip.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ryzanstein_llm

DISTRIBUTION = importlib.metadata.distribution("ryzanstein-llm")
TAGS = re.findall(r"^Tag: (.+)$", DISTRIBUTION.read_text("WHEEL") or "", re.M)
FILES = [str(path) for path in DISTRIBUTION.files or []]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any("manylinux" in tag for tag in TAGS), reason="needs an installed manylinux wheel"
    ),
]


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"}
    without_settings = {name: value for name, value in os.environ.items() if name not in settings}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**without_settings, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_it_runs_from_where_it_was_installed() -> None:
    package = Path(ryzanstein_llm.__file__)
    assert package == Path(str(DISTRIBUTION.locate_file("ryzanstein_llm/__init__.py")))
    assert "site-packages" in package.parts


def test_version() -> None:
    assert ryzanstein_llm.__version__ == DISTRIBUTION.version


def test_has_avx2() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert ryzanstein_llm.has_avx2() == ({"avx2", "f16c"} <= flags)


def test_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= ryzanstein_llm.num_threads() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert ryzanstein_llm.num_threads() == 3


def test_it_holds_what_runs_and_no_sources() -> None:
    assert not [name for name in FILES if name.endswith((".c", ".h", ".pyx", ".pxd"))]
    modules = {Path(name).name.split(".")[0] for name in FILES if name.endswith(".so")}
    stubs = {Path(name).stem for name in FILES if name.endswith(".pyi")}
    assert stubs == modules
    assert {"ryzanstein_llm/py.typed", "ryzanstein_llm/demo/model.safetensors"} <= set(FILES)
    assert any(name.endswith("LICENSE") for name in FILES)


def test_one_tag_for_this_interpreter() -> None:
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert all(re.fullmatch(rf"{interpreter}-{interpreter}-manylinux\w+", tag) for tag in TAGS)


LOADED = """
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line})
"""


def test_it_brings_its_own_openmp_runtime() -> None:
    (loaded,) = run(f"import ryzanstein_llm; ryzanstein_llm.cpu_info(){LOADED}").stdout.split()
    assert Path(loaded).parent == Path(str(DISTRIBUTION.locate_file("ryzanstein_llm.libs")))


def test_another_libgomp_loaded_before_changes_nothing() -> None:
    """Its long spinning stays its own, and so do its workers."""
    library = ctypes.util.find_library("gomp")
    if library is None:
        pytest.skip("no libgomp of the system to load before")
    script = f"""
import ctypes
ctypes.CDLL({library!r})
import ryzanstein_llm
ryzanstein_llm.cpu_info(){LOADED}"""
    result = run(script, OMP_DISPLAY_ENV="verbose")
    assert len(result.stdout.split()) == 2
    spins = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", result.stderr)
    assert len(spins) == 2
    assert spins[1] == "1000"
    assert spins[0] != "1000"
