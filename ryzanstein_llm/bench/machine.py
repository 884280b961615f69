"""The machine card: what a figure was measured with and on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..kernels import cpu
from ..system.threads import choose_threads

__all__ = ["machine_card"]

PACKAGE = Path(__file__).resolve().parent.parent
COMMIT_VARIABLE = "RYZANSTEIN_COMMIT"


def machine_card() -> dict[str, Any]:
    """The software that ran and the machine it ran on. Values that are not known are None.

    Returns
    -------
    dict
        cpu, cores_allowed, physical_cores, cpu_quota, features, ram_bytes, os, python, numpy,
        version, commit, compiler.
    """
    threads = choose_threads(1)
    return {
        "cpu": _cpu_model() or platform.processor() or platform.machine(),
        "cores_allowed": threads.affinity,
        "physical_cores": threads.physical_cores,
        "cpu_quota": threads.quota,
        "features": list(cpu.features()),
        "ram_bytes": _ram_bytes(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "version": __version__,
        "commit": _commit(),
        "compiler": _compiler(),
    }


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.M)
    except OSError:
        return None
    return found[1].strip() if found else None


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def _commit() -> str | None:
    """The commit of a source tree, followed by `+` if files differ. None for an installed package,
    unless the environment variable says."""
    if COMMIT_VARIABLE in os.environ:
        return os.environ[COMMIT_VARIABLE] or None
    tree = PACKAGE.parent
    if not (tree / ".git").exists():
        return None
    head, changes = _git(tree, "rev-parse", "HEAD"), _git(tree, "status", "--porcelain", "-uno")
    return f"{head}+" if head and changes else head


def _git(tree: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.check_output(
            ["git", "-C", str(tree), *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.strip()


def _compiler() -> str | None:
    """The compiler of the kernels, from the name that it left in them."""
    try:
        found = re.search(
            rb"GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+", Path(cpu.__file__).read_bytes()
        )
    except OSError:
        return None
    return found[0].decode("ascii", "replace") if found else None
