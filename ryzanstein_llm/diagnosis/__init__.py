"""What this machine offers a model, what a model makes of it, and what would be better."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..kernels import cpu
from ..packed_cache import cache_directory
from ..system.memory import memory_limit
from ..system.threads import choose_threads
from .advice import advise
from .load import Load
from .machine import cpu_facts, huge_pages, openmp_runtimes, thread_facts
from .packed import packed_files
from .self_test import test_all_tiers
from .speed import measure_machine, measure_model

__all__ = ["diagnose"]

Progress = Callable[[int, int, str], None]


def diagnose(
    path: str | os.PathLike[str] | None = None,
    *,
    with_model: bool = False,
    n_threads: int | None = None,
    kv_dtype: str | None = None,
    weight_format: str | None = None,
    packed_cache: bool | str | os.PathLike[str] = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Look at the machine and, if asked, at a model on it. Takes some seconds.

    Parameters
    ----------
    path, n_threads, kv_dtype, weight_format, packed_cache, progress
        As for `BitNetModel`.
    with_model : bool
        Whether to open the model at `path` (None: the built-in one) and measure it.

    Returns
    -------
    dict
        cpu, threads, memory, huge_pages, openmp, self_test, limits, load, cache, model (None
        without a model) and advice: a list of {"problem", "remedy"}. All of it can be written as
        JSON. What the system does not say is None.

    Raises
    ------
    As `BitNetModel`; a kernel that fails the self-test is reported.
    """

    def step(done: int, what: str) -> None:
        if progress is not None:
            progress(done, 3 + with_model, what)

    step(0, "testing kernels")
    choice = choose_threads(n_threads)
    tests = test_all_tiers()
    found: dict[str, Any] = {
        "cpu": cpu_facts(),
        "threads": thread_facts(choice),
        "memory": None if (limit := memory_limit()) is None else asdict(limit),
        "huge_pages": huge_pages(),
        "openmp": openmp_runtimes(),
        "self_test": tests,
    }
    directory = cache_directory(packed_cache)
    found["cache"] = packed_files(directory)
    broken = any(test["failing"] for test in tests if test["tier"] == cpu.current_tier())
    load = Load()
    step(1, "measuring the machine")
    found["limits"] = measure_machine(choice.count)
    found["model"] = None
    if with_model and not broken:
        step(2, "measuring the model")
        found["model"] = measure_model(
            path,
            n_threads=n_threads,
            kv_dtype=kv_dtype,
            weight_format=weight_format,
            packed_cache=packed_cache,
        )
    found["load"] = load.since()
    step(3 + with_model, "measuring")
    found["advice"] = [asdict(advice) for advice in advise(found)]
    return found
