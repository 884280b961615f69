"""What else the CPUs do: figures that were measured meanwhile are worth less."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Load"]


class Load:
    """CPU time of this machine from now on.

    Parameters
    ----------
    root : path
        Where `/proc` is found.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = Path(root)
        self._start, self._own, self._all = time.perf_counter(), _own_seconds(), self._seconds()

    def since(self) -> dict[str, Any]:
        """
        Returns
        -------
        dict
            seconds: how long; other_cpus: how many CPUs other processes kept busy meanwhile on
            average; stolen_cpus: how many the hypervisor gave to other machines. None where the
            system does not say.
        """
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        now, own = self._seconds(), _own_seconds()
        result: dict[str, Any] = {"seconds": elapsed, "other_cpus": None, "stolen_cpus": None}
        if now is not None and self._all is not None:
            busy = now[0] - self._all[0] - (own - self._own)
            result["other_cpus"] = max(0.0, busy / elapsed)
            result["stolen_cpus"] = max(0.0, (now[1] - self._all[1]) / elapsed)
        return result

    def _seconds(self) -> tuple[float, float] | None:
        """CPU time of all processes, and time stolen, in seconds."""
        try:
            line = (self._root / "proc/stat").read_text().partition("\n")[0].split()
            user, nice, system, _, _, irq, softirq, steal = map(int, line[1:9])
            tick = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None
        return (user + nice + system + irq + softirq) / tick, steal / tick


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
