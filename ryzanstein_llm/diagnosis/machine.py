"""The CPU, the kernels for it, threads, huge pages, and OpenMP runtimes of this process."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bench.machine import machine_card
from ..kernels import cpu
from ..system.threads import ThreadChoice

__all__ = ["cache_bytes", "cpu_facts", "huge_pages", "openmp_runtimes", "thread_facts"]

OPENMP = re.compile(r"lib(gomp|omp|iomp5|kmp)[^/]*\.(so|dylib)[^/]*$")

VARIABLES = (
    "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY", "RYZANSTEIN_ISA", "RYZANSTEIN_PREFETCH",
)  # fmt: skip


def cpu_facts() -> dict[str, Any]:
    """
    Returns
    -------
    dict
        name, cache_bytes (of the largest cache), features, tier, reason (why this tier),
        available_tiers and compiled_tiers (best first), os, python, version.
    """
    card = machine_card()
    available, compiled = cpu.available_tiers(), cpu.compiled_tiers()
    tier = cpu.current_tier()
    missing = [name for name in compiled if name not in available]
    if cpu.forced_tier is not None:
        reason = f"RYZANSTEIN_ISA={cpu.forced_tier}"
    elif tier != available[0]:
        reason = "chosen by this process"
    elif missing:
        reason = f"the best that this CPU can run; it lacks what {', '.join(missing)} needs"
    else:
        reason = "the best of this build"
    return {
        "name": card["cpu"],
        "cache_bytes": cache_bytes(),
        "features": card["features"],
        "tier": tier,
        "reason": reason,
        "available_tiers": available,
        "compiled_tiers": compiled,
        "os": card["os"],
        "python": card["python"],
        "version": card["version"],
    }


def cache_bytes(root: str | os.PathLike[str] = "/") -> int | None:
    """Bytes of the largest cache of the first CPU; None if the system does not say."""
    sizes = []
    for file in Path(root, "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            found = re.fullmatch(r"(\d+)([KM]?)", file.read_text().strip())
        except OSError:
            continue
        if found:
            sizes.append(int(found[1]) * {"": 1, "K": 1024, "M": 1 << 20}[found[2]])
    return max(sizes, default=None)


def thread_facts(choice: ThreadChoice) -> dict[str, Any]:
    """The fields of ThreadChoice, whether threads wait for each other, and the variables that are
    set, by name."""
    return {
        **asdict(choice),
        "oversubscribed": choice.oversubscribed,
        "environment": {name: os.environ[name] for name in VARIABLES if os.environ.get(name)},
    }


def huge_pages(root: str | os.PathLike[str] = "/") -> dict[str, Any] | None:
    """How Linux gives out pages of 2 MiB; None on other systems.

    Returns
    -------
    dict or None
        mode: "always", "madvise" (as the library asks), "never" or None if unknown; in_use: bytes
        of this machine's processes on huge pages, or None.
    """
    folder = Path(root, "sys/kernel/mm/transparent_hugepage")
    try:
        chosen = re.search(r"\[(\w+)\]", (folder / "enabled").read_text())
    except OSError:
        return None
    in_use = None
    try:
        text = Path(root, "proc/meminfo").read_text()
        if found := re.search(r"^AnonHugePages:\s*(\d+) kB$", text, re.M):
            in_use = int(found[1]) * 1024
    except OSError:
        pass
    return {"mode": chosen[1] if chosen else None, "in_use": in_use}


def openmp_runtimes(root: str | os.PathLike[str] = "/") -> list[str] | None:
    """Files of the OpenMP runtimes that this process has loaded, in the order of their addresses;
    None if the system does not say. With several, each has threads of its own."""
    try:
        lines = Path(root, "proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return None
    files = [line.split(maxsplit=5)[5] for line in lines if line.count("/")]
    return [name for name in dict.fromkeys(files) if OPENMP.search(name)]
