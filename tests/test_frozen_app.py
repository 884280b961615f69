"""A program frozen by PyInstaller has all modules and the demo model. PyInstaller is in none of our
extras (`pip install pyinstaller`); without it, the hook runs with stand-ins for what it calls."""

from __future__ import annotations

import runpy
import subprocess
import sys
import types
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ryzanstein_llm
from ryzanstein_llm._pyinstaller import get_hook_dirs

HOOK = "hook-ryzanstein_llm.py"
APP = """import ryzanstein_llm
with ryzanstein_llm.BitNetModel(n_threads=1) as model:
    print(model.generate("Once upon a time", max_tokens=4))
"""


def test_the_hook_stands_where_the_entry_point_says() -> None:
    (directory,) = map(Path, get_hook_dirs())
    assert (directory / HOOK).is_file()
    found = [each for each in entry_points(group="pyinstaller40") if "ryzanstein" in each.value]
    for each in found:  # none, if only the sources are there
        assert each.load() is get_hook_dirs


def test_the_hook_asks_for_all_modules_and_the_demo_model(monkeypatch) -> None:
    asked: list[object] = []
    hooks = types.ModuleType("PyInstaller.utils.hooks")
    hooks.collect_submodules = lambda name: asked.append(name) or [name]  # type: ignore[attr-defined]
    hooks.collect_data_files = lambda name, includes: asked.append(includes) or []  # type: ignore[attr-defined]
    for name in ("PyInstaller", "PyInstaller.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    found = runpy.run_path(str(Path(get_hook_dirs()[0], HOOK)))
    assert found["hiddenimports"] == ["ryzanstein_llm"]
    assert asked == ["ryzanstein_llm", ["demo/*"]]


@pytest.mark.slow
def test_a_frozen_program_of_three_lines(tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "ERROR"]
    hooks = ["--additional-hooks-dir", *get_hook_dirs()]
    paths = ["--paths", str(Path(ryzanstein_llm.__file__).parent.parent)]
    subprocess.run([*command, *hooks, *paths, "app.py"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "dist" / "app" / "app"], capture_output=True, text=True, check=True
    )
    with ryzanstein_llm.BitNetModel(n_threads=1) as model:
        assert done.stdout == model.generate("Once upon a time", max_tokens=4) + "\n"
