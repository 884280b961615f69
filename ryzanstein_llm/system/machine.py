"""What this machine offers: instruction sets and threads."""

from __future__ import annotations

from typing import Any

from ..kernels import cpu
from .threads import choose_threads

__all__ = ["cpu_info", "has_avx2", "num_threads"]


def has_avx2() -> bool:
    """Whether CPU, operating system and this build offer AVX2, whatever tier is forced."""
    return "avx2" in cpu.available_tiers()


def num_threads() -> int:
    """Threads that a large model would use now: `OMP_NUM_THREADS`, else the least of CPUs this
    process may use, cgroup quota rounded down, and physical cores. Small models use fewer:
    `BitNetModel.n_threads` says how many.

    Raises
    ------
    InvalidParameterError
        If `OMP_NUM_THREADS` is not a sensible number.
    """
    return choose_threads().count


def cpu_info() -> dict[str, Any]:
    """Instruction sets and kernels.

    Returns
    -------
    dict
        `features`: names CPUID and the operating system both offer; `tier`: kernels in use;
        `forced_tier`: what `RYZANSTEIN_ISA` said, or None; `available_tiers`: what this CPU and
        build can run, best first; `compiled_tiers`: what the build has.

    Raises
    ------
    UnsupportedIsaError
        If `RYZANSTEIN_ISA` names a tier that the CPU or the build lacks.
    """
    return {
        "features": list(cpu.features()),
        "tier": cpu.current_tier(),
        "forced_tier": cpu.forced_tier,
        "available_tiers": cpu.available_tiers(),
        "compiled_tiers": cpu.compiled_tiers(),
    }
