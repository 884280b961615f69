"""The compiled part: argument checks, OpenMP, and the dispatch to kernels in include/.

libgomp decides when it is loaded how long a waiting thread spins before it sleeps: 300,000
rounds, some milliseconds. A token has hundreds of joins, so one other busy process on the
machine makes each of them wait for the scheduler (measured on two cores: 2,884 ms a token
instead of 24). With 1,000 rounds a token takes 52 ms then, and as long as before on a quiet
machine. So libgomp is loaded here with that setting, unless the user has set another.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES

SPIN_ROUNDS = "1000"


def _load_openmp() -> None:
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
    Python started in a clone finds the clone before an installed package."""
    stem = os.path.join(os.path.dirname(__file__), "threads")
    return any(os.path.exists(stem + suffix) for suffix in EXTENSION_SUFFIXES)


if not _compiled():
    raise ImportError(
        f"{os.path.dirname(__file__)} has sources, but no kernels compiled for this Python: start "
        "Python in another directory to use an installed package, or run `pip install -e .` here"
    )
_load_openmp()
