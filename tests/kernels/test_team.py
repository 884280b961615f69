"""Shares and the barrier of include/ryzanstein/team.h, in a C program of their own, because no
sanitizer understands libgomp. Every task runs once, after all tasks of the step before. The thread
sanitizer, if the compiler has it, finds nothing that two threads touch unordered, and it does if
an order of team.h is broken. `.ci/sanitize thread` runs the program for longer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "sanitize" / "team_stress.c"
COMPILER = shutil.which("gcc")

if COMPILER is None or os.name != "posix":
    pytest.skip("needs gcc", allow_module_level=True)


class Program:
    """team_stress.c, compiled with further arguments."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self.path = path
        sources = ["-DRZ_SPINS=0", f"-I{ROOT / 'include'}", str(PROGRAM), "-o", str(path)]
        command = [str(COMPILER), "-O2", "-g", "-std=gnu11", "-pthread", *arguments, *sources]
        self.compiled = subprocess.run(command, capture_output=True, text=True, check=False)

    def run(self, threads: int, steps: int, seed: int) -> subprocess.CompletedProcess[str]:
        assert self.compiled.returncode == 0, self.compiled.stderr
        return subprocess.run(
            [str(self.path), str(threads), str(steps), str(seed)],
            env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("team") / "plain")


def sanitized(path: Path, *arguments: str) -> Program:
    program = Program(path, "-fsanitize=thread", *arguments)
    if program.compiled.returncode or "FATAL: ThreadSanitizer" in program.run(1, 1, 0).stderr:
        pytest.skip("the thread sanitizer does not run here")
    return program


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16])
def test_every_task_runs_once_and_sees_the_step_before(plain: Program, threads: int) -> None:
    run = plain.run(threads, 3000, threads)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith(" right\n")
    stolen = int(run.stdout.split("stolen ")[1].split()[0])
    assert (stolen > 0) == (threads > 1)


def test_no_two_threads_touch_anything_unordered(tmp_path: Path) -> None:
    program = sanitized(tmp_path / "sanitized")
    for threads in (2, 7):
        run = program.run(threads, 2000, threads)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "broken",
    [
        ("-U__ATOMIC_ACQUIRE", "-D__ATOMIC_ACQUIRE=__ATOMIC_RELAXED"),
        ("-U__ATOMIC_ACQ_REL", "-D__ATOMIC_ACQ_REL=__ATOMIC_RELAXED", "-w"),
        ("-DRZ_STRESS_PLAIN_SHARES",),
    ],
    ids=["acquire", "acquire-release", "shares"],
)
def test_a_broken_order_is_reported(tmp_path: Path, broken: tuple[str, ...]) -> None:
    run = sanitized(tmp_path / "broken", *broken).run(2, 2000, 1)
    assert run.returncode != 0
    assert "WARNING: ThreadSanitizer: data race" in run.stderr
