"""The process that runs one target for a while. `__main__` starts it, and sees what became of it.

python -m tests.fuzz.child TARGET FOLDER SEED EXECUTIONS SECONDS
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from .state import State

if TYPE_CHECKING:
    from .target import Ready

ADDRESS_SPACE = 6 << 30  # bytes beside what the process has when it begins


class Run:
    """Runs inputs, counts them, and keeps those that find something.

    Parameters
    ----------
    ready : Ready
    folder : Path
        Of the target: findings and the state are kept there.
    """

    def __init__(self, ready: Ready, folder: Path, executions: int, seconds: float) -> None:
        from .check import FindingError, check

        self._check, self._finding = check, FindingError
        self._ready, self._folder = ready, folder
        self._state = State(folder)
        self._left, self._end = executions, time.monotonic() + seconds

    @property
    def done(self) -> bool:
        return self._left <= 0 or time.monotonic() > self._end

    def one(self, data: bytes) -> None:
        if self.done:
            self._state.finish()
            os._exit(0)  # libFuzzer has no way to stop
        self._state.begin(data)
        try:
            outcome = self._check(self._ready.read, data)
        except self._finding as finding:
            self._keep(data, finding)
            outcome = "finding"
        self._state.end(outcome)
        self._left -= 1

    def _keep(self, data: bytes, finding: Exception) -> None:
        cause = finding.__cause__ or finding
        name = hashlib.sha1(f"{type(cause)} {_places(cause.__traceback__)}".encode()).hexdigest()
        kept = self._folder / "findings" / name[:12]
        if not kept.exists() or len(data) < kept.stat().st_size:
            kept.write_bytes(data)
            text = "".join(traceback.format_exception(finding))
            kept.with_suffix(".txt").write_text(text, "utf-8", "backslashreplace")


def _places(trace: TracebackType | None) -> list[str]:
    """Where an exception came from: the last places in this library, and the very last."""
    found = traceback.extract_tb(trace)
    own = [f"{each.filename}:{each.lineno}" for each in found if "ryzanstein_llm" in each.filename]
    return [*own[-2:], f"{found[-1].filename}:{found[-1].lineno}" if found else ""]


def main() -> None:
    name, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    executions, seconds = int(sys.argv[4]), float(sys.argv[5])
    logging.disable()
    corpus = folder / "corpus"
    for path in (corpus, folder / "findings"):
        path.mkdir(parents=True, exist_ok=True)
    atheris = _atheris()
    watching = contextlib.nullcontext()
    if atheris is not None:
        watching = atheris.instrument_imports(include=["ryzanstein_llm"])
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        with watching:
            from . import targets
            from .target import TARGETS, kept

            assert targets
            ready = TARGETS[name](Path(scratch))
            ready = replace(ready, seeds=[*ready.seeds, *kept(name).values()])
        _limit_memory()
        run = Run(ready, folder, executions, seconds)
        if atheris is None:
            _plain(run, ready, name, seed)
        else:
            _guided(run, ready, atheris, corpus, seed)


def _atheris() -> ModuleType | None:
    try:
        import atheris
    except ImportError:
        return None
    found: ModuleType = atheris
    return found


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _plain(run: Run, ready: Ready, name: str, seed: int) -> None:
    from .mutate import mutate

    number = 0
    while True:
        random = Random(f"{name} {seed} {number}")
        data = random.choice(ready.seeds)
        run.one(mutate(data, random, ready.seeds, ready.words))
        number += 1


def _guided(run: Run, ready: Ready, atheris: ModuleType, corpus: Path, seed: int) -> None:
    from .mutate import MOST_BYTES, mutate

    def changed(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        if random.random() < 0.4:  # most of what coverage keeps is refused early
            data = random.choice(ready.seeds)
        return mutate(data, random, ready.seeds, ready.words)[:most]

    for each in ready.seeds:
        (corpus / hashlib.sha1(each).hexdigest()).write_bytes(each)
    options = [
        "fuzz", f"-seed={seed % (1 << 31) or 1}", f"-max_len={MOST_BYTES}", "-len_control=0",
        "-timeout=1000000", "-rss_limit_mb=0", "-malloc_limit_mb=0", "-reload=0", "-mutate_depth=1",
        "-print_final_stats=0", "-verbosity=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup(options, run.one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
