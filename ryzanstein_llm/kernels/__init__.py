"""The compiled part: argument checks, OpenMP, and the dispatch to kernels in include/.

A waiting thread of libgomp spins for 300,000 rounds (some milliseconds) before it sleeps. A token
has hundreds of joins, so one other busy process on the machine makes each of them wait for the
scheduler: on two cores, a token took 2,884 ms instead of 24. With 1,000 rounds it takes 52 ms, and
24 ms on a quiet machine. libgomp reads the number once, when it is loaded, so it is loaded here
with 1,000 rounds unless the user has set another number.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES

SPIN_ROUNDS = "1000"

BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")
"""If one of these is set, libgomp binds the thread that loads it to one CPU."""

cpus_before_openmp: frozenset[int] | None = None
"""CPUs that this thread was allowed before libgomp was loaded, if that may have bound it since."""


def _load_openmp() -> None:
    global cpus_before_openmp
    if hasattr(os, "sched_getaffinity") and any(os.environ.get(name) for name in BINDING):
        cpus_before_openmp = frozenset(os.sched_getaffinity(0))
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        from . import threads

        return
    os.environ["GOMP_SPINCOUNT"] = SPIN_ROUNDS
    try:
        from . import threads  # noqa: F401
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _compiled() -> bool:
    """Whether this directory has kernels compiled for this Python. A clone may have none, and
    Python started in a clone imports the clone, not an installed package."""
    stem = os.path.join(os.path.dirname(__file__), "threads")
    return any(os.path.exists(stem + suffix) for suffix in EXTENSION_SUFFIXES)


if not _compiled():
    raise ImportError(
        f"{os.path.dirname(__file__)} has sources, but no kernels compiled for this Python; start "
        "Python in another directory to use an installed package, or run `pip install -e .` here"
    )
_load_openmp()
