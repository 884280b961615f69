"""Benchmarks that a machine cannot show are skipped: nothing is timed, and the reason is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import bench_generation
from benchmarks.history.entries import read_run
from benchmarks.six.criteria import Criteria
from benchmarks.six.roofline import roofline
from ryzanstein_llm.profiling import Limits

POOR = Limits(bytes_per_second=40e9, multiply_adds_per_second=200e9)
"""Of a machine that multiplies hardly faster than it reads the weights of one token."""

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


def subject(context_length: int) -> Any:
    """A model in the shapes of 2B-4T, on that machine. It has no engine: nothing can be timed."""
    return SimpleNamespace(
        reference=True,
        model=SimpleNamespace(context_length=context_length, vocab_size=99),
        limits=lambda: POOR,
        roofline=lambda ids, count=1: lambda limits: roofline(limits, count, 0.5e9, 2e9),
    )


def test_sequences_that_the_limits_allow_to_gain_nothing_are_not_timed() -> None:
    criteria = Criteria("generation", reference=True)
    with pytest.raises(pytest.skip.Exception, match=r"40\.0 GB/s .* 200 GMAC/s allow 1\.25 x"):
        bench_generation.test_sequences_in_one_pass(8, None, subject(4096), criteria, None)
    (found,) = criteria
    assert (found.what, found.status) == ("8 sequences, times as fast as one", "not shown")


def test_a_context_that_is_too_short_for_decoding_is_a_reason() -> None:
    for call in (
        lambda *rest: bench_generation.test_decoding_with("top-p", *rest),
        lambda *rest: bench_generation.test_sequences_in_one_pass(2, *rest),
    ):
        criteria = Criteria("generation", reference=True)
        with pytest.raises(pytest.skip.Exception, match="the model's context is 20 tokens"):
            call(None, subject(20), criteria, None)
        assert len(list(criteria)) == 1
