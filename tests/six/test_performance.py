"""PERFORMANCE.md from JSON: every table and plot, and that what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra

from benchmarks.history.entries import Entry
from benchmarks.performance.__main__ import ALTERNATIVES, PLOT_FOLDER, ROOT, build, main, rebuild
from benchmarks.performance.document import FOLDER, MISSING, TemplateError, fill, refill
from benchmarks.performance.results import ResultError, Results, keep, kind_of, load_results
from benchmarks.performance.tables import TABLES
from ryzanstein_llm import BitNetModel, bench

TEMPLATE = FOLDER / "template.md"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """Of the demo model, by way of JSON."""
    found = bench.run(
        n_threads=[1, 2], contexts=[16, 300], prefill=[8, 32], batches=[1, 3], quick=True
    )
    result: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    return result


def spread(value: float) -> dict[str, float]:
    return {"median": value, "low": 0.9 * value, "high": 1.1 * value}


@pytest.fixture(scope="module")
def peers(report: dict[str, Any]) -> dict[str, Any]:
    """As `benchmarks.peers` writes it; TQ2_0 is the type of one of its files."""
    about = {"versions": {"it": "1.0"}, "build": "AVX2", "model": "808 MB of tensors"}
    rows = [
        {"engine": engine, "case": case, "kind": kind, "threads": threads, "rate": spread(rate),
         "ahead": None if engine == "ryzanstein_llm" else spread(2.0), "cosine": 0.999}
        for engine, rate in (("ryzanstein_llm", 40.0), ("llama.cpp TQ2_0", 20.0))
        for case, kind in (("decode at 16", "decode"), ("prefill of 128", "prefill"))
        for threads in (1, 2)
    ]  # fmt: skip
    engines = {"ryzanstein_llm": about, "llama.cpp TQ2_0": about}
    return {"machine": report["machine"], "model": {}, "engines": engines, "rows": rows}


@pytest.fixture(scope="module")
def profiles() -> dict[str, Any]:
    """Of the demo model."""
    found = {}
    with BitNetModel(n_threads=2) as model:
        cache = model.new_cache()
        with model.profile() as prompt:
            model.forward(list(range(30)), cache, logits="last")
        with model.profile() as decode:
            model.forward([5], cache, logits="last")
        for kind, profile in (("decode", decode), ("prefill", prompt)):
            figures = {
                "profile": profile.to_dict(),
                "threads": 2,
                "limit_multiply_adds_per_second": 1e12,
            }
            found[f"test_profile_of[{kind}]"] = figures
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def entries(report: dict[str, Any], profiles: dict[str, Any]) -> list[Entry]:
    """Two runs of the six."""
    criterion = {"benchmark": "latency", "what": "a token, in ms", "value": 27.0, "why": ""}
    results = {
        **profiles,
        "test_single_token_latency": {
            "seconds": 0.027, "mbu": 0.8, "baseline_seconds": 0.7, "times_baseline": 26.0,
            "baseline_unpacking_seconds": 3.0, "threads": 2, "tier": "avx2",
            "criteria": [
                criterion | {"status": "pass", "bound": "< 500 ms"},
                criterion | {"status": "not shown", "value": None, "bound": "", "why": "2 cores"},
            ],
        },
        "test_prefetch_on_against_off[decode]": {
            "tokens_per_second": 40.0, "tokens_per_second_without": 30.0, "prefetch_gain": 1.33,
        },
    }  # fmt: skip
    results["test_perplexity_by_kind_of_cache"] = {
        "perplexities": {"float32": 40.0, "bfloat16": 40.01, "int8": 40.4},
        "kv_bytes_per_token": {"float32": 6144, "bfloat16": 3072, "int8": 1632},
        "text_tokens": 1434,
    }
    for tier in ("avx2", "scalar"):
        results[f"test_simulated_accesses[{tier}]"] = {
            "tier": tier, "instructions": 54e6, "reads": 6e6, "d1_hit_rate": 0.98,
            "ll_hit_rate": 0.46,
        }  # fmt: skip
    for threads in (1, 2):
        results[f"test_prefill_and_decode_on[{threads}]"] = {
            "threads": threads, "prefill_tokens_per_second": 170.0 * threads,
            "prefill_speedup": threads, "prefill_efficiency": 1.0, "multiply_speedup": threads,
            "decode_tokens_per_second": 37.0, "decode_speedup": 1.05, "bandwidth_speedup": 1.1,
            "fraction_of_peak": 0.72, "mbu": 0.8,
        }  # fmt: skip
    parameters = report["model"]["parameters"]
    facts = (report["machine"], "demo", "0a", False, parameters, "bfloat16", results)
    return [Entry(f"2026-0{month}-01", f"{month}" * 40, *facts) for month in (1, 2)]


@pytest.fixture(scope="module")
def results(report: dict[str, Any], peers: dict[str, Any], entries: list[Entry]) -> Results:
    return Results(report, {"avx2": report}, peers, entries)


def test_every_table_has_its_place_and_its_figures(results: Results) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        assert f"\n{{{{{name}}}}}\n" in text
        found = table(results)
        if name == "dense":  # the demo model has nothing to skip
            assert found == ""
            continue
        lines = [line for line in found.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines[:2]}) == 1
        assert len(lines) >= 3, name


def test_tables_say_what_was_measured(results: Results) -> None:
    decode = TABLES["decode"](results)
    row = results.row("decode", 2, 300)
    assert row is not None
    assert f"{row['limit_share']['median']:.2f}" in decode
    assert "2.00 \N{MULTIPLICATION SIGN} (1.80…2.20)" in TABLES["peers"](results)
    assert "| 27.0 ms | 0.70 s | 26 \N{MULTIPLICATION SIGN} | 3.00 s |" in TABLES["baseline"](
        results
    )
    assert "| passed |" in TABLES["criteria"](results)
    assert "| not shown | 2 cores |" in TABLES["criteria"](results)
    assert "gemm q, k, v" in TABLES["operations"](results)


def test_without_results_everything_says_so_and_nothing_is_drawn(tmp_path: Path) -> None:
    needs_extra("plots", "matplotlib")
    text = build(Results(), tmp_path / "P.md", tmp_path / "plots", TEMPLATE)
    assert text.count(MISSING) == len(TABLES) + len(ALTERNATIVES)
    assert not list(tmp_path.iterdir())


def test_pictures_are_drawn_and_linked_and_the_same_each_time(
    results: Results, tmp_path: Path
) -> None:
    needs_extra("plots", "matplotlib")
    output, plots = tmp_path / "P.md", tmp_path / "pictures" / "plots"
    plots.mkdir(parents=True)
    text = build(results, output, plots, TEMPLATE)
    assert text.count(MISSING) == 1  # nothing to skip
    first = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert first.keys() == {f"{name}.svg" for name in ALTERNATIVES}
    for name in ALTERNATIVES:
        assert f"](pictures/plots/{name}.svg)" in text
        assert b"fill: #ffffff" in first[f"{name}.svg"]  # a ground of its own, for dark viewers
    assert build(results, output, plots, TEMPLATE) == text
    assert {path.name: path.read_bytes() for path in plots.iterdir()} == first


def test_the_six_of_another_model_are_not_mixed_in(results: Results, entries: list[Entry]) -> None:
    assert results.bench is not None
    other = dict(results.bench, model=dict(results.bench["model"], parameters=1))
    assert Results(other, {}, None, entries).six is None


def test_placeholders_that_mean_nothing_are_errors() -> None:
    for text in ("{{limit}}", "{{plot nothing}}", "{{include nothing.md}}", "see {{limits}}"):
        with pytest.raises(TemplateError):
            fill(text, Results(), {"context": ""}.__getitem__)


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
            refill(wrong, results, lambda name: None)


def test_documents_of_the_repository_have_the_figures_of_its_results() -> None:
    found = load_results()

    def picture(name: str) -> str | None:
        path = PLOT_FOLDER / f"{name}.svg"
        link = path.relative_to(ROOT).as_posix()
        return f"![{ALTERNATIVES[name]}]({link})" if path.exists() else None

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
