"""Hardware counters through `perf stat`, where the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EVENTS", "L2_EVENTS", "Counts", "count_events", "parse_counts", "why_not"]

ROOT = Path(__file__).resolve().parent.parent.parent

EVENTS = (
    "cycles", "instructions", "branches", "branch-misses",
    "L1-dcache-loads", "L1-dcache-load-misses",
)  # fmt: skip

# (accesses, misses) of the second level: perf has no name for them that fits every CPU. The first
# pair that counts is taken: AMD Zen, Intel.
L2_EVENTS = (
    ("l2_cache_req_stat.ic_dc_hit_in_l2", "l2_cache_req_stat.ic_dc_miss_in_l2"),
    ("l2_rqsts.hit", "l2_rqsts.miss"),
)


@dataclass(frozen=True)
class Counts:
    """What was counted, by event; an event that could not be counted is missing."""

    values: Mapping[str, float]

    def share(self, part: str, *whole: str) -> float | None:
        """part / sum of whole; None where one is missing or nothing was counted."""
        found = [self.values.get(name) for name in (part, *whole)]
        if any(value is None for value in found):
            return None
        total = sum(value for value in found[1:] if value is not None)
        return (found[0] or 0.0) / total if total else None

    @property
    def cycles_per_instruction(self) -> float | None:
        """CPI."""
        return self.share("cycles", "instructions")

    @property
    def branch_miss_rate(self) -> float | None:
        """Of all branches."""
        return self.share("branch-misses", "branches")

    @property
    def l1_hit_rate(self) -> float | None:
        """Of loads."""
        missed = self.share("L1-dcache-load-misses", "L1-dcache-loads")
        return None if missed is None else 1 - missed

    @property
    def l2_hit_rate(self) -> float | None:
        """Of what reached the second level."""
        for hits, misses in L2_EVENTS:
            rate = self.share(hits, hits, misses)
            if rate is not None:
                return rate
        return None


def why_not(event: str = "instructions") -> str | None:
    """Why hardware events cannot be counted here; None where they can."""
    if shutil.which("perf") is None:
        return "perf is not installed"
    found = _perf_stat([event], ["true"], {})
    if event in parse_counts(found.stderr).values:
        return None
    for line in found.stderr.splitlines():
        if line.startswith("<"):
            return f"perf stat says of {event}: {line.partition(',')[0].strip('<>')}"
    last = (found.stderr.strip().splitlines() or ["no message"])[-1]
    return f"perf stat ended with {found.returncode}: {last}"


def count_events(
    events: Sequence[str], workload: Sequence[str], variables: Mapping[str, str] | None = None
) -> Counts:
    """Counts of a process of `benchmarks.six.workload`, without its start and warm-up.

    Parameters
    ----------
    events : sequence of str
        As perf names them; those that it does not know or cannot count are left out.
    workload : sequence of str
        Arguments.
    variables : mapping, optional
        Environment variables, beside those of this process.

    Raises
    ------
    RuntimeError
        If the process or perf fails.
    """
    known = [event for event in events if why_not(event) is None]
    if not known:
        return Counts({})
    with tempfile.TemporaryDirectory(prefix="ryzanstein-perf-") as folder:
        orders, answers = (str(Path(folder) / name) for name in ("orders", "answers"))
        for fifo in (orders, answers):
            os.mkfifo(fifo)
        command = [sys.executable, "-m", "benchmarks.six.workload", *workload]
        options = ["-D", "-1", "--control", f"fifo:{orders},{answers}"]
        control = ["--control", orders, answers]
        found = _perf_stat(known, [*command, *control], variables or {}, options)
    if found.returncode:
        raise RuntimeError(f"perf stat ended with {found.returncode}: {found.stderr.strip()}")
    return parse_counts(found.stderr)


def parse_counts(text: str) -> Counts:
    """What `perf stat -x,` wrote: value, unit, event, ... a line."""
    values = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) >= 3 and fields[0].replace(".", "", 1).isdigit():
            values[fields[2].removesuffix(":u")] = float(fields[0])
    return Counts(values)


def _perf_stat(
    events: Sequence[str],
    command: Sequence[str],
    variables: Mapping[str, str],
    options: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["perf", "stat", "-x,", "-e", ",".join(events), *options, "--", *command],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
