"""How many threads to use, and why. Policy only: nothing here starts or binds a thread."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import kernels
from ..errors import InvalidParameterError
from ..kernels.threads import possible_team
from ..validation import check_int
from .cgroup import cpu_quota

__all__ = ["MAX_THREADS", "ThreadChoice", "choose_threads"]

log = logging.getLogger(__name__)

MAX_THREADS = 1024
"""A larger number is taken for a mistake."""

WEIGHTS_PER_THREAD = 12_000_000
"""Another thread helps only if each thread has at least this many weights to read for each token.

With fewer, threads wait for each other longer than they compute: on two quiet cores of a Zen 5
server two threads decoded 0.85 x as fast as one with 6 and 16 million weights, 1.10 x with 32
million. Beside a busy process the loss is far greater, because a thread that has lost its core
holds up the other.
"""


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads and what it was chosen from.

    Attributes
    ----------
    count : int
        Threads to use, 1 to `MAX_THREADS`.
    reason : str
        Where `count` comes from, for people: "2 physical cores".
    affinity : int
        CPUs that this process may run on.
    quota : float or None
        CPUs' worth of time that the control group allows; None if there is no limit.
    physical_cores : int
        Cores behind those CPUs; equal to `affinity` if the system does not say.
    requested : bool
        Whether the caller or `OMP_NUM_THREADS` asked for this number. Then it is obeyed.
    """

    count: int
    reason: str
    affinity: int
    quota: float | None
    physical_cores: int
    requested: bool = False

    def for_model(self, weights: int) -> ThreadChoice:
        """The choice for a model with this number of weights: fewer threads if it is small, unless
        a number was requested."""
        useful = max(1, weights // WEIGHTS_PER_THREAD)
        if self.requested or useful >= self.count:
            return self
        reason = f"enough for a model of {weights / 1e6:.3g} million weights"
        return replace(self, count=useful, reason=reason)

    def possible(self) -> ThreadChoice:
        """The choice with fewer threads if the system refuses to start so many."""
        count = possible_team(self.count)
        if count == self.count:
            return self
        return replace(self, count=count, reason="the system refuses more threads")

    @property
    def oversubscribed(self) -> bool:
        """Whether `count` threads have to wait for each other's CPU time."""
        return self.count > self.affinity or self.count > _whole(self.quota, self.affinity)


def choose_threads(
    n_threads: int | None = None, *, root: str | os.PathLike[str] = "/"
) -> ThreadChoice:
    """The number of threads: the argument, else `OMP_NUM_THREADS`, else what the machine has.
    `ThreadChoice.for_model` then lowers it for a small model.

    Parameters
    ----------
    n_threads : int, optional
        1 to `MAX_THREADS`; obeyed exactly. If None, `OMP_NUM_THREADS` in `os.environ`
        counts, and of a list (`4,2`) the first number. If that is unset or empty: the
        smallest of CPUs allowed, physical cores, and the control group's quota rounded
        down, but at least 1.
    root : path
        Where `/proc` and `/sys` are found.

    Raises
    ------
    InvalidParameterError
        `n_threads` or `OMP_NUM_THREADS` is not an integer in range.
    """
    cpus = _allowed_cpus()
    affinity = len(cpus)
    quota = cpu_quota(root)
    cores = _physical_cores(cpus, root)
    requested = os.environ.get("OMP_NUM_THREADS", "").strip()
    if n_threads is not None:
        count = check_int("n_threads", n_threads, 1, MAX_THREADS)
        reason = f"n_threads={count}"
    elif requested:
        count = _from_environment(requested)
        reason = f"OMP_NUM_THREADS={requested}"
    else:
        # min() keeps the first of equals, so the most telling reason comes first.
        count, reason = min(
            (cores, _plural(cores, "physical core")),
            (affinity, f"{_plural(affinity, 'CPU')} in the affinity mask"),
            (_whole(quota, affinity), f"control group quota of {quota or 0:.2f} CPUs"),
            key=lambda candidate: candidate[0],
        )
    asked = n_threads is not None or bool(requested)
    choice = ThreadChoice(count, reason, affinity, quota, cores, asked)
    if choice.oversubscribed:
        limit = "" if quota is None else f" and a quota of {quota:.2f}"
        log.warning(
            "%s: %d threads on %s%s; they will wait for each other",
            reason,
            count,
            _plural(affinity, "CPU"),
            limit,
        )
    return choice


def _from_environment(requested: str) -> int:
    """The value of OMP_NUM_THREADS; of a list (for nested regions) the first number."""
    try:
        count = int(requested.split(",")[0])
    except ValueError:
        problem = f"must be an integer from 1 to {MAX_THREADS}, not {requested!r}"
        raise InvalidParameterError(problem, "OMP_NUM_THREADS") from None
    return check_int("OMP_NUM_THREADS", count, 1, MAX_THREADS)


def _allowed_cpus() -> set[int]:
    if not hasattr(os, "sched_getaffinity"):
        return set(range(os.cpu_count() or 1))
    allowed = os.sched_getaffinity(0)
    if kernels.cpus_before_openmp is not None and len(allowed) == 1:
        return set(kernels.cpus_before_openmp)  # libgomp has bound this thread
    return allowed


def _physical_cores(cpus: Iterable[int], root: str | os.PathLike[str]) -> int:
    """Cores behind these logical CPUs; one each if the system does not say."""
    cores = set()
    for cpu in cpus:
        topology = Path(root, f"sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            # Threads of one core list the same CPUs, so the text itself names the core.
            cores.add((topology / "thread_siblings_list").read_text().strip())
        except (OSError, UnicodeDecodeError):
            cores.add(f"cpu{cpu}")
    return max(1, len(cores))


def _whole(quota: float | None, without: int) -> int:
    return without if quota is None else max(1, math.floor(quota))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
