"""Runs that are kept, and what a new one is held against: shares of limits, never times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history.__main__ import main
from benchmarks.history.check import compare
from benchmarks.history.entries import FormatError, load_entries, read_run, save

LATENCY = "test_single_token_latency"


def run_file(folder: Path, day: int = 1, cpu: str = "A", **figures: Any) -> Path:
    """A file as pytest-benchmark writes it, of one benchmark."""
    info = {
        "machine": {"cpu": cpu}, "model": "2b", "random_weights": True, "parameters": 5,
        "kv_dtype": "bfloat16", "commit": f"{day:040x}", "tier": "avx2", "threads": 2,
        "mbu": 0.8, "seconds": 0.0271828182845, **figures,
    }  # fmt: skip
    found = {
        "datetime": f"2026-01-{day:02}T00:00:00.000001+00:00",
        "benchmarks": [{"name": LATENCY, "stats": {"data": [1.0]}, "extra_info": info}],
    }
    path = folder / f"run-{day}.json"
    path.write_text(json.dumps(found))
    return path


def history(tmp_path: Path, *runs: dict[str, Any]) -> list[Any]:
    folder = tmp_path / "history"
    folder.mkdir(exist_ok=True)
    for day, figures in enumerate(runs, 1):
        save(read_run(run_file(tmp_path, day, **figures)), folder)
    return load_entries(folder)


def test_a_run_is_kept_without_its_raw_timings(tmp_path: Path) -> None:
    (entry,) = history(tmp_path, {})
    (path,) = (tmp_path / "history").iterdir()
    assert path.name == "20260101-000000-2b-0000000.json"
    assert "stats" not in path.read_text()
    assert entry.results[LATENCY]["seconds"] == 0.0271828  # six digits
    assert entry.machine == {"cpu": "A"}
    assert "machine" not in entry.results[LATENCY]


@pytest.mark.parametrize(("mbu", "bad"), [(0.80, False), (0.73, False), (0.71, True)])
def test_a_loss_of_more_than_a_tenth_of_a_share_is_bad(
    tmp_path: Path, mbu: float, bad: bool
) -> None:
    kept = history(tmp_path, {"mbu": 0.8})
    (finding,) = compare(read_run(run_file(tmp_path, 9, mbu=mbu)), kept)
    assert (finding.figure, finding.before, finding.now, finding.bad) == ("mbu", 0.8, mbu, bad)


def test_times_are_not_compared(tmp_path: Path) -> None:
    """A machine that is half as fast in everything shows the same share."""
    kept = history(tmp_path, {"seconds": 0.1})
    findings = compare(read_run(run_file(tmp_path, 9, seconds=0.2)), kept)
    assert [finding.bad for finding in findings] == [False]


def test_it_is_held_against_the_median_of_the_last_three(tmp_path: Path) -> None:
    kept = history(tmp_path, *({"mbu": mbu} for mbu in (0.99, 0.70, 0.99, 0.80)))
    (finding,) = compare(read_run(run_file(tmp_path, 9)), kept)
    assert (finding.before, finding.runs) == (0.80, 3)


@pytest.mark.parametrize(
    "other",
    [{"cpu": "B"}, {"kv_dtype": "int8"}, {"parameters": 6}, {"tier": "scalar"}, {"threads": 1}],
    ids=lambda other: next(iter(other)),
)
def test_only_like_is_compared_with_like(tmp_path: Path, other: dict[str, Any]) -> None:
    kept = history(tmp_path, other)
    assert compare(read_run(run_file(tmp_path, 9, mbu=0.1)), kept) == []


def test_changed_bits_are_bad(tmp_path: Path) -> None:
    kept = history(tmp_path, {"nll": "0x1p3", "text": "a"})
    same, changed, other = (
        compare(read_run(run_file(tmp_path, 9, nll=nll, text=text)), kept)
        for nll, text in (("0x1p3", "a"), ("0x1p4", "a"), ("0x1p4", "b"))
    )
    assert [(f.figure, f.bad) for f in same] == [("mbu", False), ("nll", False)]
    assert [(f.figure, f.bad) for f in changed] == [("mbu", False), ("nll", True)]
    assert other == []  # another text


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    kept = history(tmp_path, {})
    assert compare(read_run(run_file(tmp_path, 1)), kept) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    command = ["--folder", str(folder)]
    assert main([*command, "check", str(run_file(tmp_path, 1))]) == 0
    assert "nothing to compare" in capsys.readouterr().out
    assert main([*command, "add", str(run_file(tmp_path, 1))]) == 0
    capsys.readouterr()
    assert main([*command, "check", str(run_file(tmp_path, 2, mbu=0.7))]) == 1
    assert (
        "WORSE  test_single_token_latency: mbu 0.800 -> 0.700 (-12.5%)" in capsys.readouterr().out
    )
    assert main([*command, "check", str(run_file(tmp_path, 2, mbu=0.7)), "--most-lost", "20"]) == 0
    capsys.readouterr()
    assert main([*command, "show"]) == 0
    table = capsys.readouterr().out
    assert "2026-01-01  0000000     2b    A       27.18  0.800" in table


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    for text in ("{}", "[]", "no JSON", '{"datetime": "", "benchmarks": []}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"other\.json"):
            read_run(path)
    assert main(["check", str(path)]) == 2
    assert "error: " in capsys.readouterr().err
    with pytest.raises(FormatError, match=r"other\.json"):
        load_entries(tmp_path)


def test_what_the_repository_keeps_can_be_read() -> None:
    for entry in load_entries():
        assert entry.results
        assert entry.machine["cpu"]
