"""A worker as the driver sees it: a process that stays, answers, and otherwise does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ryzanstein_llm.errors import BenchError

__all__ = ["Engine", "machine_cpu_seconds", "settle"]

ROOT = Path(__file__).resolve().parent.parent.parent
REST = 0.05  # seconds without computing that count as rest; /proc counts in hundredths
LOOKS = 100  # at most; counted, as a clock goes on while this process is stopped


class Engine:
    """
    Parameters
    ----------
    name : str
        What reports call it.
    command : sequence of str
        Starts a worker that speaks `protocol`, from the root of the repository.

    Attributes
    ----------
    about : dict
        What the worker says of itself.
    vocab_size : int

    Raises
    ------
    BenchError
        If the worker does not come up, here and in `ask`: if it fails or ends.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            encoding="utf-8",
        )
        try:
            hello = self._answer()
        except BaseException:
            self.close()
            raise
        self.about: dict[str, Any] = hello["about"]
        self.vocab_size: int = hello["vocab_size"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request of `protocol` and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._gone() from None
        return self._answer()

    def cpu_seconds(self) -> float | None:
        """CPU time of all its threads so far; None where the system does not say."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaints.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._gone()
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return dict(answer)

    def _gone(self) -> BenchError:
        code = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return BenchError(f"{self.name}: ended with code {code}: {(lines or ['no message'])[-1]}")


def machine_cpu_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """CPU time of everything on this machine so far, with what a hypervisor gave to others; None
    where the system does not say."""
    try:
        _, *fields = stat.read_text().splitlines()[0].split()
        user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, fields[:8])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


def settle(engines: Sequence[Engine]) -> None:
    """Wait until none of them computes: threads go on waiting for work for a while after it.

    Raises
    ------
    BenchError
        If one goes on for seconds: nothing can be measured beside it.
    """
    before = [engine.cpu_seconds() for engine in engines]
    for _ in range(LOOKS):
        time.sleep(REST)
        now = [engine.cpu_seconds() for engine in engines]
        busy = [e.name for e, a, b in zip(engines, now, before, strict=True) if a != b]
        if not busy:
            return
        before = now
    raise BenchError(f"{', '.join(busy)}: computes without being asked")
