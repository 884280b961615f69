# cython: language_level=3
"""Which kernels run: the table of functions that every compute call reads.

`RYZANSTEIN_ISA` (`scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`) forces a tier when this module is
imported. Without it, the best tier that the CPU and the operating system offer is used. The amx tier
also needs a permission, which has effects on the whole process; `request_permission` asks for it when
a model is opened, and until then, and where it is refused, the next tier is used.
`RYZANSTEIN_PREFETCH` (`1` or `0`, by default `1`) says whether kernels prefetch memory.

`amx-emulated` is the amx tier with tile registers that are emulated in C, for tests on CPUs with
avx512vnni, and `amx-portable` is the same for any CPU. They are slow, and listed among the tiers only if
`RYZANSTEIN_ISA` names them.
"""
import errno
import logging
import os

from ryzanstein_llm.errors import InvalidParameterError, UnsupportedIsaError

log = logging.getLogger("ryzanstein_llm.kernels.cpu")

cdef extern from "ryzanstein/kernels.h" nogil:
    uint32_t rz_features()
    int rz_tier_count()
    const char *rz_tier_name(int index)
    int rz_tier_compiled(int index)
    int rz_tier_supported(int index)
    int rz_tier_is_emulation(int index)
    int rz_tier_needs_permission(int index)
    int rz_tier_request(int index)
    unsigned long rz_tier_signal_stack()
    const rz_kernels *rz_tier_kernels(int index)

cdef extern from "ryzanstein/target.h" nogil:
    int64_t rz_prefetch_mask

cdef extern from "ryzanstein/float_mode.h" nogil:
    void rz_float_mode_flush_to_zero(int on)

# Bit numbers of enum rz_cpu_feature in cpu_features.h.
_FEATURES = ("avx2", "f16c", "fma", "avxvnni", "avx512f", "avx512bw", "avx512dq", "avx512vl",
             "avx512vnni", "avx512vbmi", "avx512bf16", "amx-tile", "amx-int8")

cdef const rz_kernels *_current = NULL
cdef int _awaiting = -1  # the tier to use once the operating system permits it; -1: none
_refused = set()  # tiers that it does not permit


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


def _name(int index):
    return rz_tier_name(index).decode()


def _known_tiers():
    """Indices of all tiers, best first, and of an emulation that was asked for."""
    return [i for i in range(rz_tier_count()) if not rz_tier_is_emulation(i) or _name(i) == forced_tier]


def compiled_tiers():
    """Tiers that this build contains, best first."""
    return [_name(i) for i in _known_tiers() if rz_tier_compiled(i)]


def available_tiers():
    """Tiers that this build contains and this CPU can run, best first, without those that the operating
    system has refused. `scalar` is always there."""
    return [_name(i) for i in _known_tiers()
            if rz_tier_compiled(i) and rz_tier_supported(i) and _name(i) not in _refused]


def current_tier():
    """Name of the tier in use."""
    return _current.tier.decode()


def _find(name):
    """The index of a tier that this build contains and this CPU can run."""
    for i in range(rz_tier_count()):
        if _name(i) != name:
            continue
        if not rz_tier_compiled(i):
            raise UnsupportedIsaError(
                f"this build does not contain tier {name!r}; it contains {', '.join(compiled_tiers())}")
        if not rz_tier_supported(i):
            raise UnsupportedIsaError(
                f"this CPU cannot run tier {name!r}; it can run {', '.join(available_tiers())}")
        return i
    names = ", ".join(_name(i) for i in range(rz_tier_count()) if not rz_tier_is_emulation(i))
    raise UnsupportedIsaError(f"unknown instruction-set tier {name!r}; the known tiers are {names}")


def _request(int index):
    """The errno with which the operating system refuses a tier to this process, or 0."""
    return rz_tier_request(index)


def _ask(index):
    """Why the operating system does not permit a tier; "" if it does."""
    code = _request(index)
    if code == 0:
        return ""
    reason = os.strerror(code)
    if code == errno.ENOSPC:
        reason = ("a thread has an alternate signal stack of less than the "
                  f"{rz_tier_signal_stack()} bytes that a signal needs then")
    return f"the operating system does not let this process use tier {_name(index)!r}: {reason}"


def use_tier(name):
    """Use one tier for all models of the process, from the next compute call on.

    Results stay the same, only the speed changes. Do not call it while a model computes.

    Raises
    ------
    UnsupportedIsaError
        If no tier has this name, this build does not contain it, this CPU cannot run it, or the
        operating system does not permit it.
    """
    global _current, _awaiting
    index = _find(name)
    refusal = _ask(index)
    if refusal:
        raise UnsupportedIsaError(refusal)
    _current = rz_tier_kernels(index)
    _awaiting = -1


cdef int _choose(int index) except -1:
    """Uses a tier now, or what comes next until `request_permission`."""
    global _current, _awaiting
    _awaiting = index if rz_tier_needs_permission(index) else -1
    _current = rz_tier_kernels(_next_tier() if _awaiting >= 0 else index)
    return 0


def _next_tier():
    """The best tier that needs no permission."""
    return next(i for i in range(rz_tier_count())
                if rz_tier_compiled(i) and rz_tier_supported(i) and not rz_tier_needs_permission(i))


def request_permission():
    """Ask the operating system for what the best tier, or the forced one, needs of it. Opening a model calls
    this first. If it is refused, the next tier stays in use.

    Raises
    ------
    UnsupportedIsaError
        If it is refused for the tier that `RYZANSTEIN_ISA` names.
    """
    global _current, _awaiting
    index = _awaiting
    if index < 0:
        return
    refusal = _ask(index)
    if not refusal:
        _current, _awaiting = rz_tier_kernels(index), -1
    elif forced_tier:
        raise UnsupportedIsaError(f"RYZANSTEIN_ISA={forced_tier}: {refusal}")
    else:
        _awaiting = -1
        _refused.add(_name(index))
        log.warning("%s; using tier %s", refusal, current_tier())


def use_prefetch(bint on):
    """Say whether kernels prefetch memory, as `RYZANSTEIN_PREFETCH` does at import.

    Results stay the same. Switch it off to measure what prefetching brings. Do not call it while a
    model computes."""
    global rz_prefetch_mask
    rz_prefetch_mask = -1 if on else 0


def set_flush_to_zero(bint on):
    """Set or clear flush-to-zero in the calling thread, as some other libraries do. For tests."""
    rz_float_mode_flush_to_zero(on)


forced_tier = os.environ.get("RYZANSTEIN_ISA", "").strip().lower() or None
if forced_tier:
    try:
        _choose(_find(forced_tier))
    except UnsupportedIsaError as error:
        raise UnsupportedIsaError(f"RYZANSTEIN_ISA={forced_tier}: {error}") from None
else:
    _choose(_find(available_tiers()[0]))

_prefetch = os.environ.get("RYZANSTEIN_PREFETCH", "").strip()
if _prefetch not in ("", "0", "1"):
    raise InvalidParameterError(f"RYZANSTEIN_PREFETCH={_prefetch}: the value must be 0 or 1")
use_prefetch(_prefetch != "0")
