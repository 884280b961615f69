"""The recipe uses the library that is compiled, and says what is missing before any work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ryzanstein_llm.kernels import SPIN_ROUNDS
from training.installed import INSTALL, _short_spinning

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import importlib.abc, runpy, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["training", "train", "texts", "run"]
runpy.run_module("training", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A clone in which nothing is compiled."""
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "demo")
    for name in ("training", "ryzanstein_llm"):
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    return clone


def python(clone: Path, *arguments: str, installed: Path | None = ROOT) -> tuple[int, str, str]:
    """Exit code, output and errors of Python in the clone, with the library on the path or not."""
    result = subprocess.run(
        [sys.executable, "-S", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed or "")},
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout, result.stderr


def test_in_uncompiled_sources_the_installed_library_is_used(sources: Path) -> None:
    code = "import training, ryzanstein_llm.kernels as k; print(training.__file__, k.__file__)"
    status, out, err = python(sources, "-c", code)
    assert (status, err) == (0, "")
    training, library = out.split()
    assert Path(training).is_relative_to(sources)
    assert Path(library).is_relative_to(ROOT)


def test_without_a_compiled_library_the_command_to_install_it_is_named(sources: Path) -> None:
    status, _, err = python(sources, "-m", "training", "train", "texts", "run", installed=None)
    assert (status, err) == (
        2, "error: ryzanstein_llm is not compiled for this Python: pip install .\n"
    )  # fmt: skip


def test_a_library_of_another_version_is_refused(sources: Path) -> None:
    version = sources / "ryzanstein_llm" / "_version.py"
    version.write_text('__version__ = "9.8.7"\n')
    status, _, err = python(sources, "-m", "training", "train", "texts", "run")
    assert status == 2
    assert "not that of this clone: pip install ." in err


@pytest.mark.parametrize(
    ("names", "title"), [(("torch",), "PyTorch"), (("matplotlib.figure",), "matplotlib")]
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, names: tuple[str, ...], title: str
) -> None:
    code = WITHOUT.format(names=names)
    if title == "matplotlib":  # asked for after PyTorch
        code = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n" + code
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert result.stderr == f"error: {title} is not installed: {INSTALL}\n"


def test_waiting_threads_spin_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the library, which may share PyTorch's OpenMP runtime; unless the user has set it."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    with _short_spinning():
        assert os.environ["GOMP_SPINCOUNT"] == SPIN_ROUNDS
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with _short_spinning():
        assert "GOMP_SPINCOUNT" not in os.environ


def test_requirements_are_those_of_the_extra() -> None:
    """Installing them compiles nothing; so the file does not name the library."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^training = \[(.*)\]$", project, re.M)
    lines = (ROOT / "training" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if not line.startswith("#")]
    assert found == re.findall(r'"([^"]+)"', extra)
    assert INSTALL in (ROOT / "training" / "README.md").read_text(encoding="utf-8")
