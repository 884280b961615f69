"""PERFORMANCE.md from JSON: every table, and that what is missing is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra

from benchmarks.history.entries import Entry
from benchmarks.performance.__main__ import PLOT_FOLDER, ROOT, build, link, main, rebuild
from benchmarks.performance.document import FOLDER, MISSING, TemplateError, fill, refill
from benchmarks.performance.operations import OTHERS, added_up
from benchmarks.performance.results import ResultError, Results, keep, kind_of, load_results
from benchmarks.performance.tables import TABLES
from ryzanstein_llm.profiling.operations import TITLES
from ryzanstein_llm.text_table import number

TEMPLATE = FOLDER / "template.md"
SENTENCES = ("peers_run", "bandwidth", "profile_run", "simulated")
TIMES = "\N{MULTIPLICATION SIGN}"


def test_every_table_has_its_place_and_its_figures(results: Results) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        assert f"\n{{{{{name}}}}}\n" in text
        found = table(results)
        if name in SENTENCES:
            assert found.endswith(".")
            continue
        lines = [line for line in found.splitlines() if line.startswith("|")]
        assert len(lines) >= 3, name
        assert len({line.count("|") for line in lines}) == 1, name


def test_tables_say_what_was_measured(results: Results) -> None:
    decode = TABLES["decode"](results)
    row = results.row("decode", 2, 300)
    assert row is not None
    assert f"{row['limit_share']['median']:.2f}" in decode
    assert f"| 27.0 ms | 700 ms (unpacking, 3.00 s, not counted) | 26 {TIMES} as fast |" in TABLES[
        "baseline"
    ](results)
    assert "as fast as on one" in TABLES["threads"](results)


def test_the_first_table_is_of_one_run_and_says_which(results: Results) -> None:
    """All of `peers.json`: every case, nothing of other runs."""
    lines = TABLES["summary"](results).splitlines()
    assert lines[0] == (
        "| ryzanstein_llm | tokens/s | compared with llama.cpp TQ2_0 | compared with llama.cpp "
        "TQ1_0 |"
    )
    assert lines[2:] == [
        f"| {what}, {threads} | {rate} | 2.50 {TIMES} as fast | 4.25 {TIMES} as fast |"
        for what in ("decoding after 16 tokens", "prompt of 128 tokens")
        for threads, rate in (("1 thread", "40.0"), ("2 threads", "80.0"))
    ]
    assert TABLES["peers_run"](results) == (
        "Measured on 2026-01-31 on 2 cores (A CPU) with the shapes of tiny, all engines in turns "
        "on the same weights: ryzanstein_llm 2.0.0 (commit ccccccc, tier avx2); llama.cpp 0.5; "
        "medians of 5 rounds, ratios taken within each round."
    )


def test_other_engines_have_their_ranges_and_their_builds(results: Results) -> None:
    text = TABLES["peers"](results)
    line = "| decode at 16 | 2 | 80.0 (72.0…88.0) | 32.0 (28.8…35.2), 2.25…2.75 {} |"
    assert line.format(TIMES) in text
    assert (
        "- ryzanstein_llm (808 MB of tensors), llama.cpp TQ2_0 (808 MB of tensors), "
        "llama.cpp TQ1_0 (808 MB of tensors): AVX2, FMA" in text
    )


def test_criteria_that_came_out_alike_share_a_line(results: Results) -> None:
    """A failure is never hidden among the others; skipped benchmarks have theirs, too."""
    assert TABLES["criteria"](results).splitlines()[2:] == [
        "| latency | a token, in ms < 500 ms: 27.0; 2 checks that outputs are equal or finite | "
        "passed |",
        "| latency | a token, in ms < 20 ms: 27.0 | **failed** |",
        "| threads | on 8 cores > 3 x; on 16 cores > 3 x | not shown: 4 cores |",
    ]


def test_operations_are_added_up_below_a_hundredth() -> None:
    """Times are given, because in a measured profile a pause can make any operation long."""

    def operation(name: str, seconds: float, calls: int) -> dict[str, Any]:
        sums = {"wait_seconds": seconds / 2, "bytes": 1e6, "multiply_adds": 1e3}
        return {"name": name, "seconds": seconds, "calls": calls, **sums}

    first, second, third, fourth, fifth = list(TITLES)[:5]
    found = added_up(
        {
            "seconds": 100.0,
            "operations": [
                operation(first, 1.0, 1),  # exactly a hundredth
                operation(second, 0.9, 1),
                operation(third, 90.0, 1),
                operation(fourth, 0.1, 1),
                operation(fifth, 8.0, 0),  # no call of a kernel: Python
            ],
        }
    )
    assert list(found) == [TITLES[third], TITLES[fifth], TITLES[first], OTHERS]
    assert found[TITLES[third]] == {
        "seconds": 90.0, "wait_seconds": 45.0, "bytes": 1e6, "multiply_adds": 1e3,
        "python_seconds": 0.0,
    }  # fmt: skip
    assert found[TITLES[fifth]]["python_seconds"] == 8.0
    assert found[OTHERS] == {
        "seconds": 1.0, "wait_seconds": 0.5, "bytes": 2e6, "multiply_adds": 2e3,
        "python_seconds": 0.0,
    }  # fmt: skip


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    """With its heading and the paragraph that leads to it; what is written by hand stays."""
    text = build(Results(), tmp_path / "P.md", tmp_path / "plots", TEMPLATE)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Not reached", "## Log of experiments"]
    assert not list(tmp_path.iterdir())

    template = "# All\n\nHand.\n\n## One\n\n{{machine}}\n\n## Two\n\nKept.\n"
    assert fill(template, Results(), str) == "# All\n\nHand.\n\n## Two\n\nKept.\n"
    assert fill("\n{{summary}}\n\n", Results(), str) == f"\n*{MISSING}*\n\n"


def test_a_paragraph_that_leads_to_nothing_goes_with_it(results: Results) -> None:
    template = "## Tables\n\nFirst:\n\n{{decode}}\n\nSecond:\n\n{{machines}}\n\nRest.\n"
    alone = dataclasses.replace(results, named={})
    assert fill(template, alone, str) == (
        f"## Tables\n\nFirst:\n\n{TABLES['decode'](alone)}\n\nRest.\n"
    )


def test_runs_are_named_where_their_figures_meet(results: Results) -> None:
    """How much the bandwidth varies, and of which run a profile is."""
    assert results.bench is not None
    read = results.row("read", 2)
    assert read is not None
    own = [read["rate"][end] / 1e9 for end in ("low", "high")]
    assert results.bandwidths(2, results.bench) == [1e9 * rate for rate in own]
    low, high = (pick(40.0, *own) for pick in (min, max))  # 40 GB/s: of the six
    assert TABLES["bandwidth"](results) == (
        f"The bandwidth varies: 2 threads read {own[0]:.1f} to {own[1]:.1f} GB/s in this run, and "
        f"{low:.1f} to {high:.1f} GB/s in all runs that are kept."
    )
    phase = results.profile("decode")
    assert phase is not None
    text = TABLES["profile_run"](results)
    assert f"a token took {1e3 * phase['seconds'] / phase['tokens']:.2f} ms (" in text
    assert "on 2 threads, and just before, memory gave 40.0 GB/s." in text
    assert f"in which memory gave {read['rate']['median'] / 1e9:.1f} GB/s." in text


def test_what_was_measured_on_some_numbers_of_threads_says_on_which(results: Results) -> None:
    assert results.bench is not None
    rows = [row for row in results.bench["rows"] if row["threads"] == 2]
    one = dataclasses.replace(results, named={"half": {**results.bench, "rows": rows}})
    (line,) = [line for line in TABLES["others"](one).splitlines() if line.startswith("| half")]
    row = one.row("decode", 2, 16)
    assert row is not None
    assert f"| {number(row['rate']['median'])} (2 threads) |" in line


def test_the_six_of_another_model_are_not_mixed_in(results: Results, entries: list[Entry]) -> None:
    assert results.bench is not None
    other = dict(results.bench, model=dict(results.bench["model"], parameters=1))
    assert Results(other, {}, None, entries).six is None


def test_another_machine_is_shown_beside_and_never_among_the_first(
    results: Results, entries: list[Entry]
) -> None:
    """Neither its bench, nor its run of the six, though it were the last."""
    assert results.bench is not None
    (other,) = [entry for entry in entries if entry.machine["cpu"] == "Another CPU"]
    later = dataclasses.replace(results, history=[*entries, other])
    assert later.six is not None
    assert later.six.machine["cpu"] == results.bench["machine"]["cpu"]
    assert "Another" not in TABLES["others"](later)
    lines = TABLES["machines"](later).splitlines()
    assert lines[2] == f"| CPU | {results.bench['machine']['cpu']} | Another CPU |"
    row = results.row("decode", 2, 16)
    assert row is not None
    share = f"tokens/s, {row['limit_share']['median']:.2f}"
    (decoding,) = [line for line in lines if line.startswith("| decoding after 16")]
    assert decoding.count(share) == 2
    assert "Another CPU, avx2, 2 threads" in TABLES["by_limits"](later)
    alone = dataclasses.replace(results, named={}, history=entries[1:])
    assert TABLES["machines"](alone) == TABLES["by_limits"](alone) == ""
    trained = {**results.bench["model"], "parameters": 1}
    otherwise = {"another": {**results.named["another"], "model": trained}}
    assert TABLES["machines"](dataclasses.replace(results, named=otherwise)) == ""


def test_requests_and_batches_say_how_much_faster_they_are(results: Results) -> None:
    for table, kind, begin in (
        ("sampled", "sampled", "| temperature 0.7, top_p 0.95 |"),
        ("batches", "batch", "| 3 sequences |"),
    ):
        size = 3 if kind == "batch" else 16
        (line,) = [line for line in TABLES[table](results).splitlines() if line.startswith(begin)]
        for count in (1, 2):
            row = results.row(kind, count, size)
            assert row is not None
            assert f"| {row['relative']['median']:.2f} {TIMES} |" in line


def test_each_tier_of_a_report_has_a_line(results: Results) -> None:
    """Of one that was made with several."""
    assert results.bench is not None
    tier = results.bench["options"]["settings"][0]["tier"]
    settings = [{"tier": name, "threads": 1} for name in (tier, "amx")]
    rows = [row for row in results.bench["rows"] if row["threads"] == 1]
    fast = [row | {"tier": "amx", "rate": dict.fromkeys(row["rate"], 7654.0)} for row in rows]
    several = {
        **results.bench,
        "options": results.bench["options"] | {"settings": settings},
        "rows": rows + fast,
    }
    found = TABLES["others"](dataclasses.replace(results, bench=several, named={})).splitlines()
    assert [line.split(" | ")[:2] for line in found[2:]] == [
        ["| default", tier],
        ["| default", "amx"],
    ]
    assert "7654" in found[3]
    assert "7654" not in found[2]
    assert "7654" not in TABLES["sampled"](dataclasses.replace(results, bench=several))


def test_placeholders_that_mean_nothing_are_errors() -> None:
    for text in ("{{limit}}", "{{plot nothing}}", "{{include nothing.md}}", "see {{machine}}"):
        with pytest.raises(TemplateError):
            fill(text, Results(), lambda name: "")


def test_blocks_of_other_documents_are_made_anew(results: Results, tmp_path: Path) -> None:
    needs_extra("plots", "matplotlib")
    document = tmp_path / "README.md"
    document.write_text("Before.\n\n<!-- begin figures -->\nold\n<!-- end figures -->\n\nAfter.\n")
    text = rebuild(results, document, tmp_path / "plots")
    assert text.startswith("Before.\n\n<!-- begin figures -->\n")
    assert text.endswith("\n<!-- end figures -->\n\nAfter.\n")
    assert "old" not in text
    assert TABLES["summary"](results) in text
    assert "](plots/engines.svg)" in text
    document.write_text(text)
    assert rebuild(results, document, tmp_path / "plots") == text
    for wrong in ("no block", "<!-- begin nothing -->\n<!-- end nothing -->"):
        with pytest.raises(TemplateError):
            refill(wrong, results, lambda name: "")


def test_documents_of_the_repository_have_the_figures_of_its_results() -> None:
    found = load_results()

    def picture(name: str) -> str:
        return link(PLOT_FOLDER / f"{name}.svg", ROOT / "PERFORMANCE.md")

    text = fill(TEMPLATE.read_text(encoding="utf-8"), found, picture)
    assert (ROOT / "PERFORMANCE.md").read_text(encoding="utf-8") == text
    for name in ("README.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert refill(text, found, picture) == text


def test_results_are_kept_without_samples(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps(report))
    folder = tmp_path / "results"
    keep(given, "", folder)
    assert main(["--results", str(folder), "add", str(given), "--name", "avx2"]) == 0
    assert "bench-avx2.json" in capsys.readouterr().out
    found = load_results(folder, tmp_path / "no-history")
    assert found.bench is not None
    assert found.others.keys() == {"avx2"}
    assert found.rows("decode") == [row for row in report["rows"] if row["kind"] == "decode"]
    assert not {"samples"} & found.bench.keys()
    assert not any("tokens" in start for start in found.bench["starts"])


def test_files_of_something_else_are_refused(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.json"
    for text in ("{}", "[]", "no JSON"):
        given.write_text(text)
        with pytest.raises(ResultError, match=r"given\.json"):
            keep(given, "", tmp_path / "results")
    assert kind_of({}) is None
    folder = tmp_path / "results"
    folder.mkdir(exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(report))
    with pytest.raises(ResultError, match="its name says peers, its contents bench"):
        load_results(folder, tmp_path)
    assert main(["--results", str(folder), "build", "--output", str(tmp_path / "P.md")]) == 2
    assert "error: " in capsys.readouterr().err


def test_what_the_repository_keeps_can_be_read() -> None:
    found = load_results()
    for table in TABLES.values():
        assert isinstance(table(found), str)
