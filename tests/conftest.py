"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

# Before NumPy: BLAS threads that spin make every other thread wait on a small machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from ryzanstein_llm.kernels import cpu

# Shells ignore Ctrl-C in what they run in the background; programs that tests start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's own packed weights are never touched, not by processes that tests start either."""
    os.environ["RYZANSTEIN_CACHE"] = str(tmp_path_factory.mktemp("packed-cache"))


@pytest.fixture(params=cpu.available_tiers())
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once under every tier of this build that the CPU can run."""
    former = cpu.current_tier()
    cpu.use_tier(request.param)
    yield request.param
    cpu.use_tier(former)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every test and every run."""
    return np.random.default_rng(20240227)
