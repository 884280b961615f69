"""Cache accesses as valgrind's cachegrind simulates them: a machine without counters can do that.

valgrind knows no AVX-512 and simulates no prefetch, so it shows the avx2 and scalar tiers as if
they never asked for memory ahead: where accesses go, not what they cost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CacheCounts", "in_kernels", "parse_output", "simulate", "why_not"]

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class CacheCounts:
    """Simulated data accesses: D1 is the first level, LL the last.

    Attributes
    ----------
    instructions, reads, d1_read_misses, ll_read_misses, writes : int
    """

    instructions: int = 0
    reads: int = 0
    d1_read_misses: int = 0
    ll_read_misses: int = 0
    writes: int = 0

    @property
    def d1_hit_rate(self) -> float:
        """Of reads; 1 where there are none."""
        return 1 - self.d1_read_misses / self.reads if self.reads else 1.0

    @property
    def ll_hit_rate(self) -> float:
        """Of reads that missed D1; 1 where there are none."""
        return 1 - self.ll_read_misses / self.d1_read_misses if self.d1_read_misses else 1.0

    def __add__(self, other: CacheCounts) -> CacheCounts:
        return CacheCounts(
            self.instructions + other.instructions,
            self.reads + other.reads,
            self.d1_read_misses + other.d1_read_misses,
            self.ll_read_misses + other.ll_read_misses,
            self.writes + other.writes,
        )


def why_not() -> str | None:
    """Why it cannot run here; None where it can."""
    return None if shutil.which("valgrind") else "valgrind is not installed"


def in_kernels(file: str, function: str) -> bool:
    """Whether a function of a source file belongs to the kernels."""
    return "include/ryzanstein/" in file


def simulate(tier: str, workload: Sequence[str]) -> tuple[CacheCounts, CacheCounts]:
    """(of the kernels, of the whole process) for a process of `benchmarks.six.workload`. Minutes.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    with tempfile.TemporaryDirectory(prefix="ryzanstein-cachegrind-") as folder:
        out = Path(folder) / "out"
        found = subprocess.run(
            [
                *("valgrind", "--tool=cachegrind", "--cache-sim=yes"),
                f"--cachegrind-out-file={out}",
                *(sys.executable, "-m", "benchmarks.six.workload", *workload),
            ],
            cwd=ROOT,
            env={**os.environ, "RYZANSTEIN_ISA": tier, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode or not out.exists():
            last = "\n".join(found.stderr.strip().splitlines()[-5:])
            raise RuntimeError(f"cachegrind ended with {found.returncode}: {last}")
        text = out.read_text(errors="replace")
    return parse_output(text, in_kernels), parse_output(text, lambda file, function: True)


def parse_output(text: str, wanted: Callable[[str, str], bool]) -> CacheCounts:
    """Sums over the functions that are wanted, from a file of cachegrind.

    Raises
    ------
    ValueError
        If the file has no simulated caches.
    """
    names: list[str] = []
    file = function = ""
    total = CacheCounts()
    for line in text.splitlines():
        if line.startswith("events: "):
            names = line.split()[1:]
        elif line.startswith("fl="):
            file = line[3:]
        elif line.startswith("fn="):
            function = line[3:]
        elif line[:1].isdigit() and wanted(file, function):
            values = dict(zip(names, map(int, line.split()[1:]), strict=False))
            if "D1mr" not in names:
                raise ValueError(f"no simulated caches, but {names}")
            total += CacheCounts(
                values.get("Ir", 0),
                values.get("Dr", 0),
                values.get("D1mr", 0),
                values.get("DLmr", 0),
                values.get("Dw", 0),
            )
    return total
