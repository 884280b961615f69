"""What this machine offers: instruction sets and threads."""

from __future__ import annotations

from typing import Any

from ..kernels import cpu
from .threads import choose_threads

__all__ = ["cpu_info", "has_avx2", "num_threads"]


def has_avx2() -> bool:
    """Whether CPU, operating system and this build offer AVX2, even if another tier is forced."""
    return "avx2" in cpu.available_tiers()


def num_threads() -> int:
    """Number of threads that a large model would use now: `OMP_NUM_THREADS`, else the smallest of:
    CPUs that this process may use, the cgroup quota rounded down, and physical cores. A small model
    uses fewer; `BitNetModel.n_threads` says how many.

    Raises
    ------
    InvalidParameterError
        If `OMP_NUM_THREADS` is not an integer from 1 to 1024.
    """
    return choose_threads().count


def cpu_info() -> dict[str, Any]:
    """Instruction sets and kernels.

    Returns
    -------
    dict
        `features`: SIMD features that the CPU and the operating system both offer; `tier`: the
        kernels in use; `forced_tier`: the value of `RYZANSTEIN_ISA`, or None; `available_tiers`:
        tiers that this CPU and this build can run, best first; `compiled_tiers`: tiers that this
        build contains.

    Raises
    ------
    UnsupportedIsaError
        If `RYZANSTEIN_ISA` names a tier that the CPU or the build lacks, or that the operating
        system does not permit.
    """
    cpu.request_permission()
    return {
        "features": list(cpu.features()),
        "tier": cpu.current_tier(),
        "forced_tier": cpu.forced_tier,
        "available_tiers": cpu.available_tiers(),
        "compiled_tiers": cpu.compiled_tiers(),
    }
