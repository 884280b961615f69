# cython: language_level=3
"""Which kernels run: the table of functions that every compute call reads.

`RYZANSTEIN_ISA` (`scalar`, `avx2`, `avxvnni`, `avx512vnni`) forces a tier when this module is
imported. Without it, the best tier that the CPU and the operating system offer is used.
`RYZANSTEIN_PREFETCH` (`1` or `0`, by default `1`) says whether kernels prefetch memory.
"""
import os

from ryzanstein_llm.errors import InvalidParameterError, UnsupportedIsaError

cdef extern from "ryzanstein/kernels.h" nogil:
    uint32_t rz_features()
    int rz_tier_count()
    const char *rz_tier_name(int index)
    int rz_tier_compiled(int index)
    int rz_tier_supported(int index)
    const rz_kernels *rz_tier_kernels(int index)

cdef extern from "ryzanstein/target.h" nogil:
    int64_t rz_prefetch_mask

cdef extern from "ryzanstein/float_mode.h" nogil:
    void rz_float_mode_flush_to_zero(int on)

# Bit numbers of enum rz_cpu_feature in cpu_features.h.
_FEATURES = ("avx2", "f16c", "fma", "avxvnni", "avx512f", "avx512bw", "avx512dq", "avx512vl",
             "avx512vnni", "avx512vbmi", "avx512bf16")

cdef const rz_kernels *_current = NULL


cdef const rz_kernels *kernels() noexcept nogil:
    return _current


cdef class Table:
    """The kernels of one tier, for the self-test.

    Parameters
    ----------
    tier : str, optional
        One of `available_tiers()`. Default: the tier in use.
    """

    def __cinit__(self, tier=None):
        self.kernels = _current
        if tier is not None:
            self.kernels = rz_tier_kernels([rz_tier_name(i).decode() for i in range(rz_tier_count())].index(tier))

    @property
    def address(self):
        """Where it is in memory, `TABLE_BYTES` bytes."""
        return <size_t>self.kernels


TABLE_BYTES = sizeof(rz_kernels)


def use_table(size_t address):
    """Read the table at this address from now on. Only for tests, which put a broken kernel, or one that counts its
    calls, into a copy of a tier's table."""
    global _current
    _current = <const rz_kernels *>address


def features():
    """Names of the SIMD features that the CPU and the operating system both offer, as a tuple of str."""
    cdef uint32_t bits = rz_features()
    return tuple(name for bit, name in enumerate(_FEATURES) if bits >> bit & 1)


def compiled_tiers():
    """Tiers that this build contains, best first."""
    return [rz_tier_name(i).decode() for i in range(rz_tier_count()) if rz_tier_compiled(i)]


def available_tiers():
    """Tiers that this build contains and this CPU can run, best first. The last one is always `scalar`."""
    return [rz_tier_name(i).decode() for i in range(rz_tier_count())
            if rz_tier_compiled(i) and rz_tier_supported(i)]


def current_tier():
    """Name of the tier in use."""
    return _current.tier.decode()


def use_tier(name):
    """Use one tier for all models of the process, from the next compute call on.

    Results stay the same, only the speed changes. Do not call it while a model computes.

    Raises
    ------
    UnsupportedIsaError
        If no tier has this name, this build does not contain it, or this CPU cannot run it.
    """
    global _current
    for i in range(rz_tier_count()):
        if rz_tier_name(i).decode() != name:
            continue
        if not rz_tier_compiled(i):
            raise UnsupportedIsaError(
                f"this build does not contain tier {name!r}; it contains {', '.join(compiled_tiers())}")
        if not rz_tier_supported(i):
            raise UnsupportedIsaError(
                f"this CPU cannot run tier {name!r}; it can run {', '.join(available_tiers())}")
        _current = rz_tier_kernels(i)
        return
    names = ", ".join(rz_tier_name(i).decode() for i in range(rz_tier_count()))
    raise UnsupportedIsaError(f"unknown instruction-set tier {name!r}; the known tiers are {names}")


def use_prefetch(bint on):
    """Say whether kernels prefetch memory, as `RYZANSTEIN_PREFETCH` does at import.

    Results stay the same. Switch it off to measure what prefetching brings. Do not call it while a
    model computes."""
    global rz_prefetch_mask
    rz_prefetch_mask = -1 if on else 0


def set_flush_to_zero(bint on):
    """Set or clear flush-to-zero in the calling thread, as some other libraries do. For tests."""
    rz_float_mode_flush_to_zero(on)


_forced = os.environ.get("RYZANSTEIN_ISA", "").strip().lower()
if _forced:
    try:
        use_tier(_forced)
    except UnsupportedIsaError as error:
        raise UnsupportedIsaError(f"RYZANSTEIN_ISA={_forced}: {error}") from None
else:
    use_tier(available_tiers()[0])
forced_tier = _forced or None

_prefetch = os.environ.get("RYZANSTEIN_PREFETCH", "").strip()
if _prefetch not in ("", "0", "1"):
    raise InvalidParameterError(f"RYZANSTEIN_PREFETCH={_prefetch}: the value must be 0 or 1")
use_prefetch(_prefetch != "0")
