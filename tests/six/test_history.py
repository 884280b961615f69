"""Runs that are kept, and what a new one is held against: limits of the same run, never times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history.__main__ import main
from benchmarks.history.check import compare
from benchmarks.history.entries import FormatError, load_entries, read_run, save
from benchmarks.history.machines import last_of_each, shares
from benchmarks.six.roofline import roofline
from ryzanstein_llm.profiling import Limits

LATENCY = "test_single_token_latency"


def run_file(folder: Path, day: int = 1, cpu: str = "A", **figures: Any) -> Path:
    """A file as pytest-benchmark writes it, of one benchmark."""
    info = {
        "machine": {"cpu": cpu}, "model": "2b", "weights": "0a", "random_weights": True,
        "parameters": 5, "kv_dtype": "bfloat16", "commit": f"{day:040x}",
        "tier": "avx2", "threads": 2, "mbu": 0.8, "seconds": 0.0271828182845,
        "tokens_per_second": 40.0, "limit_bytes_per_second": 40e9, **figures,
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
    assert entry.not_shown == []
    assert "machine" not in entry.results[LATENCY]


def test_what_was_skipped_is_kept_with_the_reason(tmp_path: Path) -> None:
    """Its benchmark has no result of its own in the file."""
    path = run_file(tmp_path)
    criterion = {"benchmark": "threads", "what": "on 8 cores", "status": "not shown", "why": "2"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"not_shown": [criterion]}))
    (tmp_path / "history").mkdir()
    save(read_run(path), tmp_path / "history")
    (entry,) = load_entries(tmp_path / "history")
    assert entry.not_shown == [criterion]


@pytest.mark.parametrize(("speed", "bad"), [(40.0, False), (36.4, False), (35.6, True)])
def test_a_loss_of_more_than_a_tenth_is_bad(tmp_path: Path, speed: float, bad: bool) -> None:
    kept = history(tmp_path, {})
    (finding,) = compare(read_run(run_file(tmp_path, 9, tokens_per_second=speed)), kept)
    assert (finding.figure, finding.before, finding.bad) == ("tokens a GB", 1.0, bad)
    assert finding.now == pytest.approx(speed / 40)


def test_a_machine_half_as_fast_in_everything_has_lost_nothing(tmp_path: Path) -> None:
    kept = history(tmp_path, {})
    half = {"tokens_per_second": 20.0, "limit_bytes_per_second": 20e9, "seconds": 0.05}
    (finding,) = compare(read_run(run_file(tmp_path, 9, **half)), kept)
    assert (finding.now, finding.bad) == (1.0, False)


def test_fewer_bytes_a_token_are_no_loss(tmp_path: Path) -> None:
    """The share of the bandwidth falls with them."""
    kept = history(tmp_path, {})
    (finding,) = compare(read_run(run_file(tmp_path, 9, tokens_per_second=44.0, mbu=0.6)), kept)
    assert (finding.now, finding.bad) == (1.1, False)


def test_prompts_are_held_against_the_peak(tmp_path: Path) -> None:
    prompt = {"prefill_tokens_per_second": 300.0, "fraction_of_peak": 0.7}
    kept = history(tmp_path, prompt)
    run = run_file(tmp_path, 9, **prompt | {"fraction_of_peak": 0.6})
    assert [(f.figure, f.bad) for f in compare(read_run(run), kept)] == [
        ("tokens a GB", False),
        ("prompt, share of the peak", True),
    ]


def test_it_is_held_against_the_median_of_the_last_three(tmp_path: Path) -> None:
    kept = history(tmp_path, *({"tokens_per_second": speed} for speed in (48.0, 30.0, 48.0, 36.0)))
    (finding,) = compare(read_run(run_file(tmp_path, 9)), kept)
    assert (finding.before, finding.runs) == (0.9, 3)


@pytest.mark.parametrize(
    "other",
    [{"cpu": "B"}, {"kv_dtype": "int8"}, {"parameters": 6}, {"tier": "scalar"}, {"threads": 1}],
    ids=lambda other: next(iter(other)),
)
def test_only_like_is_compared_with_like(tmp_path: Path, other: dict[str, Any]) -> None:
    kept = history(tmp_path, other)
    assert compare(read_run(run_file(tmp_path, 9, tokens_per_second=1.0)), kept) == []


def machine_run(
    tmp_path: Path, folder: str, day: int, cpu: str, reads: float, **shares: float
) -> None:
    """A kept run whose benchmark says its limits and shares of them."""
    (tmp_path / folder).mkdir(exist_ok=True)
    limits = {"limit_bytes_per_second": reads, "limit_multiply_adds_per_second": 10 * reads}
    run = run_file(tmp_path, day, cpu=cpu, of_limit=shares, **limits)
    save(read_run(run), tmp_path / folder)


def test_machines_of_different_kinds_are_compared_by_their_own_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last run of each, in shares of the limits of that run: a machine that is twice as fast
    in everything is no better. Histories may lie in several folders."""
    machine_run(tmp_path, "one", 1, "A", 40e9, **{"a token": 0.2})
    machine_run(tmp_path, "one", 2, "A", 40e9, **{"a token": 0.8, "8 sequences": 0.6})
    machine_run(tmp_path, "two", 3, "B", 80e9, **{"a token": 0.8, "top-p": 0.5})
    command = ["--folder", str(tmp_path / "one"), "machines", str(tmp_path / "two")]
    assert main(command) == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["2b, each machine by the limits of its own run"],
        ["A, avx2, 2 threads, 2026-01-02", "B, avx2, 2 threads, 2026-01-03", "second / first"],
        ["reads, GB/s", "40.0", "80.0"],
        ["multiplies, G int8 a second", "400.0", "800.0"],
        ["8 sequences, of the limit", "0.600"],
        ["a token, of the limit", "0.800", "0.800", "1.00"],
        ["top-p, of the limit", "0.500"],
    ]


def test_machines_with_another_model_or_without_shares_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    save(
        read_run(run_file(tmp_path, 1, cpu="A", of_limit={"a token": 0.8}, kv_dtype="int8")), folder
    )
    save(read_run(run_file(tmp_path, 2, cpu="B", of_limit={"a token": 0.7})), folder)
    save(read_run(run_file(tmp_path, 3, cpu="C")), folder)
    assert [entry.machine["cpu"] for entry in last_of_each(load_entries(folder))] == ["B"]
    (folder / "20260102-000000-2b-0000000.json").unlink()
    for path in folder.iterdir():
        if '"of_limit"' in path.read_text():
            path.unlink()
    assert main(["--folder", str(folder), "machines"]) == 0
    assert "no kept run says its shares" in capsys.readouterr().out


def test_of_several_numbers_of_threads_the_most_count(tmp_path: Path) -> None:
    info = json.loads(run_file(tmp_path).read_text())["benchmarks"][0]["extra_info"]
    benchmarks = [
        {
            "name": f"test_prefill_and_decode_on[{threads}]",
            "extra_info": info | {"threads": threads, "of_limit": {"decoding": share}},
        }
        for threads, share in ((16, 0.7), (2, 0.8), (1, 0.9))
    ]
    path = tmp_path / "several.json"
    path.write_text(json.dumps({"datetime": "2026-01-01", "benchmarks": benchmarks}))
    assert shares(read_run(path)) == {"decoding": 0.7}


def test_what_both_limits_allow() -> None:
    """One token waits for memory; many wait for multiply-adds."""
    limits = Limits(bytes_per_second=40e9, multiply_adds_per_second=1000e9)
    assert roofline(limits, 1, 0.4e9, 2e9) == 100
    assert roofline(limits, 5, 0.4e9, 2e9) == 500
    assert roofline(limits, 50, 0.4e9, 2e9) == 500


def test_several_sequences_are_held_against_bandwidth_too(tmp_path: Path) -> None:
    kept = history(tmp_path, {"batch_tokens_per_second": 160.0})
    run = run_file(tmp_path, 9, batch_tokens_per_second=140.0)
    assert [(f.figure, f.bad) for f in compare(read_run(run), kept)] == [
        ("tokens a GB", False),
        ("tokens of all sequences a GB", True),
    ]


def test_changed_bits_are_bad(tmp_path: Path) -> None:
    kept = history(tmp_path, {"nll": "0x1p3", "text": "a"})
    same, changed, other, trained_anew = (
        compare(read_run(run_file(tmp_path, 9, nll=nll, text=text, weights=weights)), kept)
        for nll, text, weights in (
            ("0x1p3", "a", "0a"), ("0x1p4", "a", "0a"), ("0x1p4", "b", "0a"), ("0x1p4", "a", "0b")
        )
    )  # fmt: skip
    assert [(f.figure, f.bad) for f in same] == [("tokens a GB", False), ("nll", False)]
    assert [(f.figure, f.bad) for f in changed] == [("tokens a GB", False), ("nll", True)]
    assert other == []  # another text
    assert [f.figure for f in trained_anew] == ["tokens a GB"]


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
    assert main([*command, "check", str(run_file(tmp_path, 2, tokens_per_second=35.0))]) == 1
    assert (
        "WORSE  test_single_token_latency: tokens a GB 1 -> 0.875 (-12.5%)"
        in capsys.readouterr().out
    )
    assert (
        main(
            [
                *command,
                "check",
                str(run_file(tmp_path, 2, tokens_per_second=35.0)),
                "--most-lost",
                "20",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main([*command, "show"]) == 0
    table = capsys.readouterr().out
    assert "2026-01-01  0000000     2b    A       27.18         0.800" in table


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    for text in ("{}", "[]", "no JSON", '{"datetime": "", "benchmarks": []}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"other\.json"):
            read_run(path)
    incomplete = json.loads(run_file(tmp_path).read_text())
    del incomplete["benchmarks"][0]["extra_info"]["weights"]
    path.write_text(json.dumps(incomplete))
    with pytest.raises(FormatError, match=r"other\.json.* does not say weights"):
        read_run(path)
    assert main(["check", str(path)]) == 2
    assert "error: " in capsys.readouterr().err
    with pytest.raises(FormatError, match=r"other\.json"):
        load_entries(tmp_path)


def test_what_the_repository_keeps_can_be_read() -> None:
    for entry in load_entries():
        assert entry.results
        assert entry.machine["cpu"]
