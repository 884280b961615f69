"""After some hundred generations of every kind, a process holds what it held before them.
`.ci/sanitize leaks` runs the same with 10,000."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

if not Path("/proc/self/statm").exists():
    pytest.skip("needs Linux", allow_module_level=True)

from resources import Resources

import ryzanstein_llm

HERE = Path(__file__).parent


def leaks(*arguments: str) -> subprocess.CompletedProcess[str]:
    package = Path(ryzanstein_llm.__file__).parent  # the same that the tests have
    return subprocess.run(
        [sys.executable, str(HERE), *arguments],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("cache_bytes", ["1073741824", "8388608"], ids=["room", "no-room"])
def test_nothing_is_left_of_generations(cache_bytes: str) -> None:
    run = leaks("--generations", "300", "--warm-up", "500", "--cache-bytes", cache_bytes)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "cancelled" in run.stdout.splitlines()[0]


def test_what_is_left_is_found() -> None:
    run = leaks("--generations", "300", "--warm-up", "500", "--only", "leaking")
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "too much: descriptors objects blocks"


def test_each_resource_is_seen() -> None:
    before = Resources.now()
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    with open(__file__) as file:
        memory, objects = b"x" * (8 << 20), [[file] for _ in range(1000)]
        more = Resources.now().since(before)
    wait.set()
    thread.join()
    assert more.memory >= len(memory)
    assert (more.threads, more.descriptors) == (1, 1)
    assert len(objects) <= more.objects <= len(objects) + 50
    assert more.blocks > 1000
