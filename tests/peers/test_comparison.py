"""`benchmarks.peers`: the order of measuring, and that wrong outputs and busy neighbours give no
figures; with stand-ins for engines. No test looks at how fast anything is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import engine as engine_module
from benchmarks.peers.compare import Case, Comparison, Peer, Sample, cosine, measure
from benchmarks.peers.engine import Engine, machine_cpu_seconds, settle
from benchmarks.peers.protocol import decode_logits, encode_logits
from benchmarks.peers.report import Report, make_rows
from ryzanstein_llm.errors import BenchError

STAND_IN = Path(__file__).with_name("stand_in.py")
CASES = [Case("decode", (3, 1, 4), 5), Case("prefill", (3, 1, 4, 1, 5, 9), 6)]

counts_cpu_time = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="this system does not say what CPU time was taken"
)


@pytest.fixture(autouse=True)
def quick_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REST", 0.02)
    monkeypatch.setattr(engine_module, "LOOKS", 25)


@contextlib.contextmanager
def stand_in(name: str, **options: Any) -> Iterator[Engine]:
    command = [sys.executable, str(STAND_IN), json.dumps({"name": name, **options})]
    with Engine(name, command) as engine:
        yield engine


def run(spoilt: dict[str, Any], rounds: int = 1) -> Comparison:
    """Ours and a peer with these options; the reference is a good one."""
    with (
        stand_in("ours", **spoilt.get("ours", {})) as ours,
        stand_in("reference") as reference,
        stand_in("peer", **spoilt.get("peer", {})) as peer,
    ):
        return measure([Peer(ours, None), Peer(peer, reference)], CASES, [1, 2], rounds)


# ---- order -------------------------------------------------------------------------------------


def test_engines_take_turns(tmp_path: Path) -> None:
    """Each case, with each number of threads, by one engine after the other; every second round
    in the other direction; a round with most threads goes before the first."""
    log = tmp_path / "log"
    with (
        stand_in("a", log=str(log)) as a,
        stand_in("b", log=str(log)) as b,
        stand_in("reference") as reference,
    ):
        found = measure([Peer(a, None), Peer(b, reference)], CASES, [1, 2], 2)
    turns = [line.split() for line in log.read_text().splitlines()]
    wanted = [
        (name, case.kind, len(case.ids), threads)
        for number, counts in ((-1, [2]), (0, [1, 2]), (1, [1, 2]))
        for case in CASES
        for threads in counts
        for name in ("ab" if number % 2 else "ba")
    ]
    assert [(n, kind, int(size), int(t)) for n, kind, size, t in turns] == wanted
    recorded = [(s.engine, s.kind, s.threads) for s in found.samples]
    assert recorded == [(name, kind, threads) for name, kind, _, threads in wanted[4:]]
    assert {s.round for s in found.samples} == {0, 1}
    assert [(limit["round"], limit["threads"]) for limit in found.limits] == [
        (0, 1), (0, 2), (1, 1), (1, 2)
    ]  # fmt: skip
    assert found.check == {"tokens": [1, 2], "threads": [1, 2]}


def test_an_engine_may_take_part_in_fewer_rounds() -> None:
    steps = []
    with stand_in("ours") as ours, stand_in("slow") as slow:
        peers = [Peer(ours, None), Peer(slow, ours, rounds=1)]
        found = measure(peers, CASES, [1], 3, lambda *step: steps.append(step[:2]))
    assert [s.round for s in found.samples if s.engine == "slow"] == [0, 0]
    assert [s.round for s in found.samples if s.engine == "ours"] == [0, 0, 1, 1, 2, 2]
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)]


# ---- outputs -----------------------------------------------------------------------------------


def test_right_outputs_give_samples() -> None:
    found = run({"peer": {"rate": 50.0}})
    assert [(s.engine, s.case, s.rate) for s in found.samples if s.threads == 1] == [
        ("peer", "decode at 2", 50.0),
        ("ours", "decode at 2", 100.0),
        ("peer", "prefill of 6", 50.0),
        ("ours", "prefill of 6", 100.0),
    ]
    for sample in found.samples:
        assert sample.cosine == (None if sample.engine == "ours" else pytest.approx(1.0))


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"peer": {"spoil": "logits"}}, "decode at 2, peer, threads: 2: cosine .* reference"),
        ({"peer": {"spoil": "token"}}, "peer.*: the last token is not the likeliest"),
        ({"ours": {"spoil": "change"}}, "ours.*: output differs from an earlier one"),
        ({"peer": {"spoil": "die"}}, "peer: ended with code 3: out of something"),
        ({"peer": {"spoil": "raise"}}, "peer: RuntimeError: not today"),
        ({"peer": {"spoil": "refuse"}}, "peer: ValueError: no such model"),
    ],
)
def test_what_is_wrong_ends_the_run(spoilt: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        run(spoilt)


def test_what_a_library_prints_is_no_answer() -> None:
    assert run({"peer": {"spoil": "print"}}).samples


def test_cosine_is_of_the_angle() -> None:
    a = np.array([1, 0, 2], np.float32)
    assert cosine(a, 3 * a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(a, np.array([1, 0, 0], np.float32)) == pytest.approx(5**-0.5)
    for broken in (0.0, np.nan, np.inf):
        assert cosine(a, np.full(3, broken, np.float32)) == 0


def test_logits_travel_bit_for_bit() -> None:
    logits = np.array([0.1, -0.0, np.inf, 1e-45, 3e38], np.float32)
    assert decode_logits(encode_logits(logits)).tobytes() == logits.tobytes()


# ---- neighbours --------------------------------------------------------------------------------


@counts_cpu_time
def test_an_engine_that_never_rests_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REST", 0.3)  # some ticks even on a crowded machine
    monkeypatch.setattr(engine_module, "LOOKS", 3)
    with (
        stand_in("ours") as ours,
        stand_in("peer", spoil="busy") as peer,
        pytest.raises(BenchError, match=r"^peer: computes without being asked"),
    ):
        settle([ours, peer])


@counts_cpu_time
def test_nothing_is_measured_beside_a_busy_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was at rest before."""
    monkeypatch.setattr("benchmarks.peers.compare.settle", lambda engines: None)
    with pytest.raises(BenchError, match=r"ours: other engines computed for \d"):
        run({"ours": {"nap": 1.0}, "peer": {"spoil": "busy"}})


@counts_cpu_time
def test_an_engine_at_rest_takes_no_time() -> None:
    with stand_in("ours") as engine:
        settle([engine])
        before = engine.cpu_seconds()
        assert before is not None
        assert before > 0
        settle([engine])
        assert engine.cpu_seconds() == before


def test_time_of_the_machine_is_what_was_not_idle(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 5000 600 7 8 9 50 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert machine_cpu_seconds(stat) == (100 + 20 + 30 + 7 + 8 + 9) / ticks
    assert machine_cpu_seconds(tmp_path / "absent") is None


@counts_cpu_time
def test_other_programs_are_noticed() -> None:
    """Time that is neither an engine's nor idle: here, that of a spinning process."""
    with stand_in("ours") as ours, stand_in("sleepy", nap=0.3) as sleepy:
        spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            found = measure([Peer(ours, None), Peer(sleepy, ours)], CASES[1:], [1], 1)
        finally:
            spinner.kill()
            spinner.wait()
    (sample,) = [sample for sample in found.samples if sample.engine == "sleepy"]
    assert sample.elapsed >= 0.3
    assert sample.strangers_busy > 0.03


# ---- figures -----------------------------------------------------------------------------------


def sample(engine: str, number: int, seconds: float, cosine: float | None = None) -> Sample:
    return Sample(engine, "prefill of 6", "prefill", 1, number, seconds, 6, cosine, 2.0, 0.0, 0.5)


def test_ratios_are_taken_within_rounds() -> None:
    """A machine that is three times as slow in the second round changes no ratio."""
    samples = [sample("ours", 0, 1), sample("peer", 0, 2, 0.999)]
    samples += [sample("peer", 1, 6, 0.995), sample("ours", 1, 3)]
    ours, peer = make_rows(samples, ["ours", "peer"])
    assert (ours.engine, ours.rate.low, ours.rate.high) == ("ours", 2, 6)
    assert (ours.ahead, ours.cosine) == (None, None)
    assert (peer.engine, peer.rate.low, peer.rate.high) == ("peer", 1, 3)
    assert peer.ahead is not None
    assert (peer.ahead.low, peer.ahead.high) == (2, 2)
    assert peer.cosine == 0.995


def test_a_report_says_what_it_compared() -> None:
    about = {"versions": {"thing": "1.2"}, "model": "7 MB", "build": "AVX2 = 1"}
    comparison = Comparison(
        {"tokens": [5, 6, 7]},
        [{"round": 0, "threads": 1, "read": 3e10, "multiply": 5e11}],
        [sample("ours", 0, 1), sample("peer", 0, 3, 0.9987)],
    )
    report = Report(
        "2026-01-02",
        {"cpu": "a CPU", "cores_allowed": 2},
        {"name": "shapes"},
        {"threads": [1]},
        {"ours": about, "peer": about},
        comparison,
    )
    text = report.text()
    (line,) = [line for line in text.splitlines() if "  peer  " in line]
    cells = ["prefill of 6", "1", "peer", "2.0 (2.0..2.0)", "3.00 (3.00..3.00) x", "0.9987"]
    assert re.split(r" {2,}", line) == cells
    assert "1 thread 30.0 GB/s, 500 GMAC/s" in text
    assert "thing 1.2; 7 MB" in text
    assert "resting engines took 0.0% of a core, other programs 25%" in text
    found = json.loads(json.dumps(report.to_dict()))
    assert found["date"] == "2026-01-02"
    assert found["engines"]["peer"]["build"] == "AVX2 = 1"
    assert [row["engine"] for row in found["rows"]] == ["ours", "peer"]
    assert len(found["samples"]) == 2
