"""Options and fixtures of the six benchmarks; criteria are printed at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before NumPy: BLAS threads that spin would take CPUs from what is measured.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from benchmarks.six.criteria import Criteria
from benchmarks.six.subject import Subject, open_subject
from ryzanstein_llm.bench.machine import machine_card

VALIDATION_TEXT = Path(__file__).resolve().parent.parent / "tests" / "data" / "validation_tale.txt"

ALL_CRITERIA = pytest.StashKey[list[Criteria]]()
SKIPPED = pytest.StashKey[list[dict[str, Any]]]()
TABLES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ryzanstein_llm")
    group.addoption("--model", metavar="PATH", help="checkpoint (default: the demo model)")
    group.addoption("--preset", metavar="NAME", help="random weights in the shapes of this model")
    group.addoption(
        "--threads", type=int, metavar="N", help="threads (default: as BitNetModel; 1 for the demo)"
    )
    group.addoption("--text", metavar="PATH", help="text for perplexity (default: the tests' tale)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ALL_CRITERIA], config.stash[SKIPPED], config.stash[TABLES] = [], [], []


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    machine_info["ryzanstein_llm"] = machine_card()


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]
) -> None:
    """Skipped benchmarks have no entry of their own: their criteria are written beside."""
    output_json["not_shown"] = config.stash[SKIPPED]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for table in config.stash[TABLES]:
        terminalreporter.write_line("")
        terminalreporter.write(table)
    found = [criterion for criteria in config.stash[ALL_CRITERIA] for criterion in criteria]
    if found:
        terminalreporter.section("criteria")
        for criterion in found:
            terminalreporter.write_line(criterion.line())


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The model to measure."""
    path, preset, threads = (
        request.config.getoption(name) for name in ("--model", "--preset", "--threads")
    )
    if path and preset:
        raise pytest.UsageError("--model and --preset exclude each other")
    with open_subject(path, preset, threads) as opened:
        yield opened


@pytest.fixture
def criteria(
    request: pytest.FixtureRequest, subject: Subject, benchmark: Any
) -> Iterator[Criteria]:
    """Criteria of this benchmark, which are written to its `extra_info` and printed at the end.
    One that failed fails the benchmark."""
    name = request.module.__name__.rpartition(".")[2].removeprefix("bench_")
    found = Criteria(name, subject.reference)
    request.config.stash[ALL_CRITERIA].append(found)
    yield found
    if benchmark.stats is None:  # skipped, or failed before anything was timed
        skipped = [one for one in found.to_list() if one["status"] == "not shown"]
        request.config.stash[SKIPPED] += skipped
    else:
        benchmark.extra_info["criteria"] = found.to_list()


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Any:
    """Shows a table at the end of the output: show(text)."""
    return request.config.stash[TABLES].append


@pytest.fixture(scope="session")
def text(request: pytest.FixtureRequest) -> str:
    """The text of perplexity."""
    path = request.config.getoption("--text")
    return Path(path or VALIDATION_TEXT).read_text(encoding="utf-8")
