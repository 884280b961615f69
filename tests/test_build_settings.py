"""setup.py compiles again what was compiled with other tiers: sources that have not changed are
no reason to put the kernels of an earlier build into a wheel. And it makes the page that a package
index shows."""

from __future__ import annotations

import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

setuptools = pytest.importorskip("setuptools")
SETUP = Path(__file__).resolve().parent.parent / "setup.py"


def setup_script() -> tuple[dict[str, Any], dict[str, Any]]:
    """(names of setup.py, what it gave to `setup`), without Cython."""
    cython = types.ModuleType("Cython.Build")
    cython.cythonize = lambda extensions, **_: extensions  # type: ignore[attr-defined]
    modules = {"Cython": types.ModuleType("Cython"), "Cython.Build": cython}
    with mock.patch.dict(sys.modules, modules), mock.patch.object(setuptools, "setup") as setup:
        names = runpy.run_path(str(SETUP))
    return names, setup.call_args.kwargs


def forced(
    directory: Path, monkeypatch: pytest.MonkeyPatch, force_scalar: str, instrument: str = ""
) -> bool:
    """Run the command build_ext without a compiler; whether it would compile all anew."""
    monkeypatch.setenv("FORCE_SCALAR", force_scalar)
    monkeypatch.setenv("RYZANSTEIN_INSTRUMENT", instrument)
    monkeypatch.chdir(directory)
    build: Any = setup_script()[0]["BuildKernels"]
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


@pytest.mark.parametrize("instrument", ["address", "coverage"])
def test_instruments_are_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instrument: str
) -> None:
    forced(tmp_path, monkeypatch, "0")
    assert forced(tmp_path, monkeypatch, "0", instrument)
    assert not forced(tmp_path, monkeypatch, "0", instrument)
    assert forced(tmp_path, monkeypatch, "0")


def test_an_unknown_instrument_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="RYZANSTEIN_INSTRUMENT=leak: only address or coverage"):
        forced(tmp_path, monkeypatch, "0", "leak")


def test_a_tree_that_was_built_before_settings_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forced(tmp_path, monkeypatch, "1")


LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")


def test_links_of_the_page_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZANSTEIN_REPOSITORY", "https://example.org/team/project/")
    given = setup_script()[1]
    links = LINK.findall(given["long_description"])
    assert "https://example.org/team/project/blob/HEAD/API.md" in links
    assert "https://example.org/team/project/raw/HEAD/benchmarks/plots/engines.svg" in links
    assert all(link.startswith(("https://", "#")) for link in links)
    assert given["project_urls"]["Source"] == "https://example.org/team/project"


def test_a_page_without_an_address_has_no_dead_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RYZANSTEIN_REPOSITORY", raising=False)
    given = setup_script()[1]
    assert all(
        link.startswith(("https://", "#")) for link in LINK.findall(given["long_description"])
    )
    assert "API.md" in given["long_description"]
    assert given["project_urls"] == {}


def arguments(
    monkeypatch: pytest.MonkeyPatch, directory: Path, **environment: str
) -> tuple[list[str], list[str]]:
    """(arguments of the compiler, arguments of the linker) for an extension."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(directory)
    command: Any = setup_script()[0]["BuildKernels"](setuptools.Distribution())
    command.ensure_finalized()
    (extension,) = command.extensions = [setuptools.Extension("name", ["name.c"])]
    command.compiler = mock.Mock(compiler_type="unix")
    with mock.patch.object(setuptools.command.build_ext.build_ext, "build_extensions"):
        command.build_extensions()
    return extension.extra_compile_args, extension.extra_link_args


@pytest.mark.parametrize(("cflags", "stripped"), [("", True), ("-O2 -g0", True), ("-g", False)])
def test_debugging_information_is_left_out_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cflags: str, stripped: bool
) -> None:
    assert ("-g0" in arguments(monkeypatch, tmp_path, CFLAGS=cflags)[0]) == stripped


def test_a_sanitized_build_ends_at_undefined_behaviour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling, linking = arguments(monkeypatch, tmp_path, RYZANSTEIN_INSTRUMENT="address")
    for given in (compiling, linking):
        assert "-fsanitize=address,undefined,float-cast-overflow" in given
        assert "-fno-sanitize-recover=undefined,float-cast-overflow" in given
    assert compiling.index("-g1") > compiling.index("-g0")  # the last counts: reports name lines
    compiling, linking = arguments(monkeypatch, tmp_path, RYZANSTEIN_INSTRUMENT="")
    assert not [flag for flag in (*compiling, *linking) if "sanitize" in flag]


def test_a_build_for_coverage_counts_c_and_traces_cython(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling, linking = arguments(monkeypatch, tmp_path, RYZANSTEIN_INSTRUMENT="coverage")
    assert "--coverage" in compiling
    assert "--coverage" in linking
    compiling, linking = arguments(monkeypatch, tmp_path, RYZANSTEIN_INSTRUMENT="")
    assert "--coverage" not in (*compiling, *linking)
