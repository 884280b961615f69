"""What is read from perf and valgrind, and the process they look at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.six import cachegrind, counters
from benchmarks.six.workload import main

ROOT = Path(__file__).resolve().parent.parent.parent

PERF = """\
1200,,cycles:u,100,100.00,,
1000,,instructions:u,100,100.00,0.83,insn per cycle
<not supported>,,branches,0,100.00,,
50,,l2_rqsts.hit,100,100.00,,
150,,l2_rqsts.miss,100,100.00,,
12.50,msec,task-clock,100,100.00,,
"""

CACHEGRIND = """\
desc: I1 cache: 32768 B
cmd: python
events: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw
fl=/src/include/ryzanstein/ternary/avx2.h
fn=rz_matmul_
10 100 0 0 40 10 4 8 0 0
11 50 0 0 10 0 0 2 0 0
fl=/build/python.c
fn=eval
5 1000 3 2 500 5 1 100 0 0
summary: 1150 3 2 550 15 5 110 0 0
"""


def test_counts_of_perf_are_read_and_missing_ones_missing() -> None:
    found = counters.parse_counts(PERF)
    assert found.values["task-clock"] == 12.5
    assert "branches" not in found.values
    assert found.cycles_per_instruction == 1.2
    assert found.branch_miss_rate is None
    assert found.l1_hit_rate is None
    assert found.l2_hit_rate == 0.25


def test_a_counter_that_is_missing_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(stderr: str, code: int) -> None:
        done = subprocess.CompletedProcess([], code, "", stderr)
        monkeypatch.setattr(counters, "_perf_stat", lambda *arguments: done)

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/perf")
    stat("<not supported>,,instructions,0,100.00,,\n", 0)
    assert counters.why_not() == "perf stat says of instructions: not supported"
    stat("event syntax error\nno permission\n", 255)
    assert counters.why_not() == "perf stat ended with 255: no permission"
    stat("77,,instructions:u,1,100.00,,\n", 0)
    assert counters.why_not() is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert counters.why_not() == "perf is not installed"


@pytest.mark.skipif(shutil.which("perf") is None, reason="needs perf")
def test_perf_counts_only_the_measured_part() -> None:
    """Software events, which every machine has: the start of Python takes far longer."""
    if why := counters.why_not("task-clock"):
        pytest.skip(why)
    workload = ["--amount", "4", "--threads", "1"]
    found = counters.count_events(["task-clock", "page-faults", "no-such-event"], workload)
    assert found.values.keys() == {"task-clock", "page-faults"}
    whole = subprocess.run(
        [
            *("perf", "stat", "-x,", "-e", "task-clock"),
            *(sys.executable, "-m", "benchmarks.six.workload", *workload),
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    counted = counters.parse_counts(whole.stderr).values["task-clock"]
    assert 0 < found.values["task-clock"] < 0.5 * counted


def test_simulated_accesses_are_added_up_for_the_kernels() -> None:
    kernels = cachegrind.parse_output(CACHEGRIND, cachegrind.in_kernels)
    assert kernels == cachegrind.CacheCounts(150, 50, 10, 4, 10)
    assert kernels.d1_hit_rate == 0.8
    assert kernels.ll_hit_rate == pytest.approx(0.6)
    whole = cachegrind.parse_output(CACHEGRIND, lambda file, function: True)
    assert (whole.instructions, whole.reads, whole.d1_read_misses) == (1150, 550, 15)


def test_a_file_without_simulated_caches_is_refused() -> None:
    text = CACHEGRIND.replace("Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw", "Ir")
    with pytest.raises(ValueError, match="no simulated caches"):
        cachegrind.parse_output(text, cachegrind.in_kernels)


@pytest.mark.parametrize(("kind", "tokens"), [("decode", 12), ("prefill", 12)])
def test_the_workload_says_what_it_did(
    kind: str, tokens: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--kind", kind, "--amount", "4", "--repetitions", "3", "--threads", "1"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["tokens"], found["threads"]) == (kind, tokens, 1)
    assert found["seconds"] > 0
