"""Results as they are kept: a report of bench, of peers, and runs of the six benchmarks."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from benchmarks.history.entries import Entry
from benchmarks.performance.results import Results
from ryzanstein_llm import BitNetModel, bench
from ryzanstein_llm.testing import preset_config

SHAPES = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "hidden_act")


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    """Of the demo model, by way of JSON."""
    found = bench.run(
        n_threads=[1, 2], contexts=[16, 300], prefill=[8, 32], batches=[1, 3], quick=True
    )
    result: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    return result


def spread(value: float) -> dict[str, float]:
    return {"median": value, "low": 0.9 * value, "high": 1.1 * value}


@pytest.fixture(scope="session")
def peers(report: dict[str, Any]) -> dict[str, Any]:
    """As `benchmarks.peers` writes it; TQ2_0 is the type of one of its files."""
    config = preset_config("tiny")
    about = {"build": "AVX2 = 1 | FMA = 1 | ", "model": "of that type, 808 MB of tensors"}
    engines = {
        "ryzanstein_llm": about | {
            "versions": {"ryzanstein_llm": "2.0.0", "commit": 40 * "c"}, "options": {"tier": "avx2"}
        },
        "llama.cpp TQ2_0": about | {"versions": {"llama.cpp": "0.5"}},
        "llama.cpp TQ1_0": about | {"versions": {"llama.cpp": "0.5"}},
    }  # fmt: skip
    rows = [
        {"engine": engine, "case": case, "kind": kind, "threads": threads,
         "rate": spread(40.0 * threads / behind),
         "ahead": None if behind == 1 else spread(behind), "cosine": 0.999}
        for engine, behind in zip(engines, (1, 2.5, 4.25), strict=True)
        for case, kind in (("decode at 16", "decode"), ("prefill of 128", "prefill"))
        for threads in (1, 2)
    ]  # fmt: skip
    return {
        "date": "2026-01-31",
        "machine": report["machine"] | {"cpu": "A CPU", "cores_allowed": 2},
        "model": {"name": "small", **{name: config[name] for name in SHAPES}},
        "options": {"rounds": 5},
        "engines": engines,
        "rows": rows,
    }


@pytest.fixture(scope="session")
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
                "limit_bytes_per_second": 40e9,
                "limit_multiply_adds_per_second": 1e12,
            }
            found[f"test_profile_of[{kind}]"] = figures
    result: dict[str, Any] = json.loads(json.dumps(found))
    return result


@pytest.fixture(scope="session")
def entries(report: dict[str, Any], profiles: dict[str, Any]) -> list[Entry]:
    """Four runs of the six, with three numbers of threads, and one on another machine."""
    criterion = {"benchmark": "latency", "what": "a token, in ms", "value": 27.0, "why": ""}
    results = {
        **profiles,
        "test_single_token_latency": {
            "seconds": 0.027, "mbu": 0.8, "baseline_seconds": 0.7, "times_baseline": 26.0,
            "baseline_unpacking_seconds": 3.0, "threads": 2, "tier": "avx2",
            "tokens_per_second": 37.0, "limit_bytes_per_second": 40e9,
            "of_limit": {"a token": 0.8},
            "criteria": [
                criterion | {"status": "pass", "bound": "< 500 ms"},
                criterion | {"status": "fail", "bound": "< 20 ms"},
                criterion | {"what": "bits", "status": "pass", "value": None, "bound": ""},
                criterion | {"what": "no NaN", "status": "pass", "value": None, "bound": ""},
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
    for threads in (1, 2, 4):
        results[f"test_prefill_and_decode_on[{threads}]"] = {
            "threads": threads, "prefill_tokens_per_second": 170.0 * threads,
            "prefill_speedup": threads, "prefill_efficiency": 1.0, "multiply_speedup": threads,
            "decode_tokens_per_second": 37.0, "decode_speedup": 1.05, "bandwidth_speedup": 1.1,
            "fraction_of_peak": 0.72, "mbu": 0.8,
        }  # fmt: skip
    parameters = report["model"]["parameters"]
    facts = (report["machine"], "demo", "0a", False, parameters, "bfloat16", results)
    skipped = {"benchmark": "threads", "status": "not shown", "value": None, "why": "4 cores"}
    not_shown = [skipped | {"what": f"on {count} cores", "bound": "> 3 x"} for count in (8, 16)]
    return [
        dataclasses.replace(Entry("2026-01-01", "0" * 40, *facts), machine={"cpu": "Another CPU"}),
        *(Entry(f"2026-0{month}-01", f"{month}" * 40, *facts, not_shown) for month in (1, 2, 3, 4)),
    ]


@pytest.fixture(scope="session")
def results(report: dict[str, Any], peers: dict[str, Any], entries: list[Entry]) -> Results:
    """Enough for every table and picture."""
    other = report | {"machine": report["machine"] | {"cpu": "Another CPU"}}
    return Results(report, {"avx2": report, "another": other}, peers, entries)


@pytest.fixture(scope="session")
def few(results: Results) -> Results:
    """Two numbers of threads and three runs: too few for curves."""
    (*_, last) = results.history
    less = {name: of for name, of in last.results.items() if not name.endswith("[4]")}
    entries = [dataclasses.replace(entry, results=less) for entry in results.history[-3:]]
    return dataclasses.replace(results, history=entries)
