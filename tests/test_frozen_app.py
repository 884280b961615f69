"""A program frozen by PyInstaller has all modules that it needs, and the demo model. PyInstaller is
in none of our extras (`pip install pyinstaller`); without it, the hook runs with stand-ins for what
it calls."""

from __future__ import annotations

import pkgutil
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ryzanstein_llm
from ryzanstein_llm._pyinstaller import get_hook_dirs
from ryzanstein_llm.models import FAMILIES

HOOK = "hook-ryzanstein_llm.py"
PROGRAM = """import ryzanstein_llm
with ryzanstein_llm.BitNetModel(n_threads=1) as model:
    print(model.generate("Once upon a time", max_tokens=4))
"""
COMMAND = """import sys
from ryzanstein_llm.cli import main
sys.exit(main(["generate", "Once upon a time", "--max-tokens", "4", "--greedy"]))
"""


def found_hooks() -> list[object]:
    """What PyInstaller finds by itself: nothing, if only the sources are there."""
    found = entry_points(group="pyinstaller40")
    return [each.load() for each in found if "ryzanstein" in each.value]


def test_the_hook_stands_where_the_entry_point_says() -> None:
    (directory,) = map(Path, get_hook_dirs())
    assert (directory / HOOK).is_file()
    assert all(each is get_hook_dirs for each in found_hooks())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], list[str]]:
    """The modules and the data that the hook asks for."""

    def collect_submodules(package: str, filter: Callable[[str], bool]) -> list[str]:
        prefix = f"{package}."
        modules = pkgutil.walk_packages(ryzanstein_llm.__path__, prefix, onerror=lambda _: None)
        return [package, *(each.name for each in modules if filter(each.name))]

    hooks = types.ModuleType("PyInstaller.utils.hooks")
    hooks.collect_submodules = collect_submodules  # type: ignore[attr-defined]
    hooks.collect_data_files = lambda _, includes: includes  # type: ignore[attr-defined]
    for name in ("PyInstaller", "PyInstaller.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    found = runpy.run_path(str(Path(get_hook_dirs()[0], HOOK)))
    return set(found["hiddenimports"]), found["datas"]  # codespell:ignore datas


def test_the_hook_asks_for_what_is_imported_by_name_or_by_compiled_modules(asked) -> None:
    modules, data = asked
    package = Path(ryzanstein_llm.__file__).parent
    files = package.glob(f"kernels/*{EXTENSION_SUFFIXES[0]}")
    compiled = {f"ryzanstein_llm.kernels.{path.name.split('.')[0]}" for path in files}
    families = {f"ryzanstein_llm.models{name}" for name in FAMILIES.values()}
    homes = {f"ryzanstein_llm{home}" for home in ryzanstein_llm._HOMES.values()}
    assert len(compiled) > 20
    assert compiled | families | homes <= modules
    assert data == ["demo/*"]


def test_the_hook_asks_for_nothing_that_needs_lm_eval(asked) -> None:
    """`cli` does, because of one of its commands."""
    modules, _ = asked
    names = {name.split(".")[1] for name in modules if "." in name}
    assert not names & {"cli", "integrations", "__main__", "_pyinstaller"}


@pytest.mark.slow
@pytest.mark.parametrize("source", [PROGRAM, COMMAND], ids=["three lines", "the command"])
def test_a_frozen_program(source: str, tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(source)
    # It would be bundled, as everything that is imported and can be found.
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "__init__.py").write_text("")
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "WARN"]
    if not found_hooks():
        command += ["--additional-hooks-dir", *get_hook_dirs()]
    paths = ["--paths", str(Path(ryzanstein_llm.__file__).parent.parent)]
    built = subprocess.run(
        [*command, *paths, "app.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert "ryzanstein" not in built.stderr  # no warning about a module of ours
    bundled = (tmp_path / "build" / "app" / "PYZ-00.toc").read_text()
    assert "ryzanstein_llm.models.bitnet" in bundled
    assert ("lm_eval" in bundled) == (source == COMMAND)
    done = subprocess.run(
        [tmp_path / "dist" / "app" / "app"], capture_output=True, text=True, check=True
    )
    with ryzanstein_llm.BitNetModel(n_threads=1) as model:
        text = model.generate("Once upon a time", max_tokens=4)
    prompt = "Once upon a time" if source == COMMAND else ""  # the command repeats it
    assert done.stdout == f"{prompt}{text}\n"
