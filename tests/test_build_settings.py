"""setup.py compiles again what was compiled with other tiers: sources that have not changed are
no reason to put the kernels of an earlier build into a wheel."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

setuptools = pytest.importorskip("setuptools")
SETUP = Path(__file__).resolve().parent.parent / "setup.py"


def forced(directory: Path, monkeypatch: pytest.MonkeyPatch, force_scalar: str) -> bool:
    """Run the command build_ext without a compiler; whether it would compile all anew."""
    monkeypatch.setenv("FORCE_SCALAR", force_scalar)
    monkeypatch.chdir(directory)
    cython = types.ModuleType("Cython.Build")
    cython.cythonize = lambda extensions, **_: extensions  # type: ignore[attr-defined]
    modules = {"Cython": types.ModuleType("Cython"), "Cython.Build": cython}
    with mock.patch.dict(sys.modules, modules), mock.patch.object(setuptools, "setup"):
        build: Any = runpy.run_path(str(SETUP))["BuildKernels"]
    command = build(setuptools.Distribution())
    command.ensure_finalized()
    command.extensions = []
    command.compiler = mock.Mock(compiler_type="unix")
    command.build_extensions()
    return bool(command.force)


def test_other_tiers_are_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not forced(tmp_path, monkeypatch, "0")
    assert not forced(tmp_path, monkeypatch, "0")  # nothing has changed
    assert forced(tmp_path, monkeypatch, "1")
    assert not forced(tmp_path, monkeypatch, "1")
    assert forced(tmp_path, monkeypatch, "0")


def test_a_tree_that_was_built_before_settings_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forced(tmp_path, monkeypatch, "1")
