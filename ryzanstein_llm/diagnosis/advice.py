"""What could be better, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..text_table import format_bytes

__all__ = ["Advice", "advise"]

BUSY = 0.3
"""CPUs that others keep busy, from which on figures are of little use."""

SPREAD = 0.15
"""Lowest to highest over the median: more is noise worth a word."""


@dataclass(frozen=True)
class Advice:
    """
    Attributes
    ----------
    problem : str
    remedy : str
        A command, or what else to do.
    """

    problem: str
    remedy: str


def advise(found: Mapping[str, Any]) -> Iterator[Advice]:
    """What `diagnose` found that could be better, the worst first."""
    yield from _kernels(found["self_test"], found["cpu"])
    yield from _threads(found["threads"], found["openmp"])
    yield from _memory(found["huge_pages"], found["cache"])
    yield from _noise(found["load"], found["limits"])


def _kernels(tests: list[dict[str, Any]], cpu: Mapping[str, Any]) -> Iterator[Advice]:
    good = next((test["tier"] for test in tests if not test["failing"]), "scalar")
    for test in tests:
        if test["failing"]:
            yield Advice(
                f"kernels of {test['tier']} give wrong results here: {', '.join(test['failing'])}",
                f"export RYZANSTEIN_ISA={good}; and report it, with the output of "
                "`ryzanstein-llm doctor --json`",
            )
    best = cpu["available_tiers"][0]
    if cpu["tier"] != best:
        yield Advice(
            f"{cpu['tier']} is in use, and this CPU can run {best}", "unset RYZANSTEIN_ISA"
        )
    elif best == "scalar":
        yield Advice(
            "this CPU has no AVX2, or the build no kernels for it: portable C is slow",
            "use a CPU with AVX2, or a build with all tiers",
        )


def _threads(threads: Mapping[str, Any], openmp: list[str] | None) -> Iterator[Advice]:
    if threads["oversubscribed"]:
        yield Advice(
            f"{threads['count']} threads ({threads['reason']}) wait for each other's CPU time",
            "unset OMP_NUM_THREADS, or give fewer with --threads",
        )
    environment = threads["environment"]
    if "OMP_NUM_THREADS" in environment and threads["count"] < threads["physical_cores"]:
        yield Advice(
            f"OMP_NUM_THREADS={environment['OMP_NUM_THREADS']} leaves cores idle: there are "
            f"{threads['physical_cores']}",
            "unset OMP_NUM_THREADS",
        )
    policy = environment.get("OMP_WAIT_POLICY", "").lower()
    if policy == "active" or environment.get("GOMP_SPINCOUNT", "0").lower() == "infinity":
        yield Advice(
            "waiting threads spin for ever, so another busy process stalls every token",
            "unset OMP_WAIT_POLICY GOMP_SPINCOUNT",
        )
    if openmp is not None and len(openmp) > 1:
        yield Advice(
            f"this process has {len(openmp)} OpenMP runtimes, each with threads of its own",
            "do not compute with both at once; in Python: import ryzanstein_llm before the others",
        )


def _memory(pages: Mapping[str, Any] | None, cache: Mapping[str, Any] | None) -> Iterator[Advice]:
    if pages is not None and pages["mode"] == "never":
        yield Advice(
            "huge pages are off: weights that are not mapped from a file take 4 KiB pages",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        )
    if cache is None:
        yield Advice(
            "the packed cache is off: large models are packed at each start",
            "unset RYZANSTEIN_CACHE",
        )
        return
    if not cache["writable"]:
        yield Advice(
            f"packed weights cannot be kept: {cache['directory']} cannot be written",
            "export RYZANSTEIN_CACHE=<a directory of yours>",
        )
    useless = {s: n for s, n in cache["files"].items() if s not in ("current", "unfinished")}
    if useless:
        what = ", ".join(f"{count} {state}" for state, count in useless.items())
        yield Advice(
            f"of {format_bytes(cache['nbytes'])} of packed weights on disk some are of no use: "
            f"{what}",
            "ryzanstein-llm cache list; ryzanstein-llm cache clear NAME",
        )


def _noise(load: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Advice]:
    if (load["other_cpus"] or 0) > BUSY:
        yield Advice(
            f"other processes kept {load['other_cpus']:.1f} CPUs busy: the figures are too low",
            "end them, and run this again",
        )
    if (load["stolen_cpus"] or 0) > BUSY / 3:
        yield Advice(
            f"the hypervisor gave {load['stolen_cpus']:.1f} CPUs to other machines meanwhile",
            "run this again at another time, or on a machine with CPUs of its own",
        )
    spread = max(
        (one["high"] - one["low"]) / one["median"]
        for row in limits["by_threads"]
        for one in (row["read"], row["multiply"])
    )
    if spread > SPREAD:
        yield Advice(
            f"the limits differ by {spread:.0%} from round to round: take all figures with care",
            "run this again when the machine is quiet",
        )
