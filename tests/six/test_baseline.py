"""The baseline computes the model: all that makes it slow is how it goes about it."""

from __future__ import annotations

import numpy as np
import pytest
from demo_model import DEMO, steady_excerpts
from reference import BitNetReference

from benchmarks.six.baseline import Baseline
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.kernels import cpu


@pytest.fixture(scope="module")
def model() -> BitNetModel:
    return BitNetModel(n_threads=1, kv_dtype="float32")


def test_logits_are_those_of_the_reference(model: BitNetModel) -> None:
    """Where no activation is near a rounding tie, to float32's precision."""
    reference = BitNetReference.open(DEMO)
    for ids in steady_excerpts()[:3]:
        found = Baseline(model.graph).last_logits(ids).logits
        expected = reference.forward(ids)[-1]
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_it_runs_in_the_scalar_tier_and_puts_the_tier_back(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, seen = cpu.current_tier(), []
    inner = Baseline._forward

    def spied(self: Baseline, ids: np.ndarray) -> np.ndarray:
        seen.append(cpu.current_tier())
        return inner(self, ids)

    monkeypatch.setattr(Baseline, "_forward", spied)
    run = Baseline(model.graph).last_logits([0, 5])
    assert seen == ["scalar"]
    assert cpu.current_tier() == former
    assert run.seconds > 0
    assert run.unpacking_seconds > 0


def test_nothing_is_kept_between_calls(model: BitNetModel) -> None:
    baseline = Baseline(model.graph)
    first = baseline.last_logits([0, 5, 9]).logits
    baseline.last_logits([0, 7])
    assert np.array_equal(baseline.last_logits([0, 5, 9]).logits, first)
