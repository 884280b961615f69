"""Benchmarks that a machine cannot show are skipped: nothing is timed, and the reason is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.history.entries import read_run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(output, JSON) of a few benchmarks where neither perf nor valgrind is to be found."""
    folder = tmp_path_factory.mktemp("run")
    found = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks", "-rs", "-m", ""),
            *("-k", "counters or miss_rates or simulated or cached_and_recomputed"),
            f"--benchmark-json={folder / 'run.json'}",
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout, folder / "run.json"


def test_only_what_was_timed_has_a_result(run: tuple[str, Path]) -> None:
    _, path = run
    timed = {benchmark["name"] for benchmark in json.loads(path.read_text())["benchmarks"]}
    assert timed == {"test_cached_and_recomputed_logits_agree"}


def test_every_skip_says_why(run: tuple[str, Path]) -> None:
    output, _ = run
    skips = [line for line in output.splitlines() if line.startswith("SKIPPED")]
    assert sum(line.endswith("perf is not installed") for line in skips) == 1
    assert sum(line.endswith("valgrind is not installed") for line in skips) == 1
    assert "[2]" in next(line for line in skips if line.endswith("perf is not installed"))
    assert "NOT SHOWN       profile: L1 hits (> 85 %); perf is not installed" in output


def test_the_history_keeps_what_was_not_shown(run: tuple[str, Path]) -> None:
    _, path = run
    found = {criterion["what"]: criterion for criterion in read_run(path).not_shown}
    assert found["branch misses"]["why"] == "perf is not installed"
    assert found["simulated accesses, avx2"]["why"] == "valgrind is not installed"
    assert all(criterion["status"] == "not shown" for criterion in found.values())
