"""Settings of a training run, and the schedule that follows from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.testing import tensor_shapes
from training.schedule import learning_rate, row_parts, weight_decay
from training.settings import SHAPES, Budget, Settings, Shape

CHOSEN = Settings(learning_rate=3e-3, second_learning_rate=1e-3, weight_decay=0.1, warmup=0.1)


def test_the_rate_warms_up_and_then_falls_to_zero() -> None:
    assert learning_rate(0.05, CHOSEN) == pytest.approx(1.5e-3)
    assert learning_rate(0.1, CHOSEN) == pytest.approx(3e-3)
    assert learning_rate(1, CHOSEN) == 0
    rates = [learning_rate(0.1 + 0.009 * step, CHOSEN) for step in range(101)]
    assert rates == sorted(rates, reverse=True)


def test_the_second_half_has_a_line_of_its_own() -> None:
    before, after = learning_rate(0.5 - 1e-9, CHOSEN), learning_rate(0.5, CHOSEN)
    assert before / after == pytest.approx(3)
    assert learning_rate(0.75, CHOSEN) == pytest.approx(after / 2)


def test_the_first_step_is_not_lost() -> None:
    assert learning_rate(0, CHOSEN) > 0


def test_weights_decay_in_the_first_half_only() -> None:
    assert [weight_decay(at, CHOSEN) for at in (0, 0.49, 0.5, 1)] == [0.1, 0.1, 0, 0]


def test_rows_are_cut_in_the_first_half_only() -> None:
    assert [row_parts(at, CHOSEN) for at in (0, 0.49, 0.5, 1)] == [2, 2, 1, 1]


def test_a_budget_is_of_steps_or_of_minutes() -> None:
    assert Budget(steps=8).progress(2, 1e9) == 0.25
    assert Budget(minutes=2).progress(10**9, 30) == 0.25
    assert Budget(minutes=2).progress(1, 1000) == 1
    for wrong in ({}, {"minutes": 1, "steps": 1}, {"minutes": 0}, {"steps": -1}):
        with pytest.raises(InvalidParameterError, match="budget"):
            Budget(**wrong)


def test_settings_survive_json() -> None:
    settings = Settings(SHAPES["19m"], Budget(steps=5), teachers=("a", "b"), dropout=0.1)
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 0),
        ("dropout", 1),
        ("learning_rate", -1),
        ("clip", 0),
        ("seed", -1),
        ("optimizer", "sgd"),
        ("first_parts", 3),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=f"{name} must .* {value!r}"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("layers", 0), ("heads", 5), ("kv_heads", 3), ("vocabulary", 257)]
)
def test_shapes_that_cannot_be_are_refused_by_name(name: str, value: int) -> None:
    sizes = {"hidden": 64, "inner": 96, "layers": 1, "heads": 4, "kv_heads": 2, "vocabulary": 300}
    with pytest.raises(InvalidParameterError, match=name):
        Shape(**{**sizes, name: value})


def test_packed_files_of_the_largest_shape_stay_under_8_mb() -> None:
    shapes = tensor_shapes(SHAPES["19m"].config(0, 1), "packed")
    total = 0
    for name, shape in shapes.items():
        elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
        total += elements * (1 if name.endswith("_proj.weight") else 4 if "scale" in name else 2)
    assert 7e6 < total < 8e6 - 300_000  # the tokenizer, header and config have the rest
