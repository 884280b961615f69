"""torch.compile: before the first step, all of it, and not part of the time for training."""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from toy_training import TALE, Machine, Run, RunDirectory, settings, torch

from training.machine import choose_machine

pytestmark = pytest.mark.parity

COMPILED = Machine(torch.device("cpu"), bfloat16=False, compiled=True, name="a test")


def toy(path: Path, machine: Machine = COMPILED, **changes: Any) -> tuple[Run, list[str]]:
    """A run that compiles, and the lines it says."""
    (path / "texts").mkdir()
    shutil.copy(TALE, path / "texts")
    lines: list[str] = []
    run = Run(
        path / "texts", RunDirectory(path / "run"), settings(**changes), machine, lines.append
    )
    return run, lines


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Dynamo as it is, which decides what is compiled, without a compiler behind it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    counts: dict[str, int] = torch._dynamo.utils.counters["stats"]
    return counts


def test_no_step_waits_for_a_compiler(tmp_path: Path, traced: dict[str, int]) -> None:
    run, _ = toy(tmp_path, steps=4, dropout=0.1)
    run.compile()
    assert traced["unique_graphs"] == 2  # rows are cut in the first half of the run
    assert run.train()
    assert traced["unique_graphs"] == 2


def test_a_run_in_its_second_half_compiles_what_is_left(
    tmp_path: Path, traced: dict[str, int]
) -> None:
    run, _ = toy(tmp_path, steps=4)
    assert not run.train(stop=lambda steps: steps == 3)
    run.compile()
    assert traced["unique_graphs"] == 1


def test_a_finished_run_compiles_nothing(tmp_path: Path, traced: dict[str, int]) -> None:
    run, lines = toy(tmp_path, steps=1)
    assert run.train()
    run.compile()
    assert traced["unique_graphs"] == 0
    assert not [line for line in lines if line.startswith("compil")]


def test_compiling_changes_nothing(tmp_path: Path, traced: dict[str, int]) -> None:
    """A run that compiles again when it is resumed ends as one that was not interrupted."""
    run, _ = toy(tmp_path, steps=4, dropout=0.5)
    before, random = run.trainer.weights(), torch.get_rng_state()
    run.compile()
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.trainer.weights().items())
    assert all(parameter.grad is None for parameter in run.trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert run.trainer.steps == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within PyTorch
@pytest.mark.slow  # the C++ compiler runs for most of a minute
def test_compiled_steps_on_two_threads_give_the_same_model_each_time(tmp_path: Path) -> None:
    former = torch.get_num_threads()
    try:
        machine = choose_machine("cpu", compiled=True, threads=2)
        weights = []
        for name in ("one", "other"):
            torch._dynamo.reset()
            (tmp_path / name).mkdir()
            run, lines = toy(tmp_path / name, machine, steps=3, rows=64)
            run.compile()
            assert lines[-1].startswith("compiled in")
            run.train()
            weights.append(run.trainer.weights())
    finally:
        torch.set_num_threads(former)
    one, other = weights
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_its_time_is_shown_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(objective: Any, **options: Any) -> Any:
        time.sleep(3)
        return objective

    monkeypatch.setattr(torch, "compile", slow)
    run, lines = toy(tmp_path, steps=2)
    run.compile()
    assert "compiled in 3 s, which does not count as training" in lines
    assert run.pace.seconds == 0
    assert run.train()
    assert 0 < run.pace.seconds < 3
    assert run.history[-1]["seconds"] < 3


def test_where_it_fails_training_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(objective: Any, **options: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise RuntimeError("Python.h: No such file\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    run, lines = toy(tmp_path, steps=2)
    run.compile()
    assert lines[-1] == (
        "torch.compile failed after 0 s, going on without it: Python.h: No such file"
    )
    assert run.train()
