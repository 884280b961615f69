"""Float tensors that are ternary already: which weights share a scale, and which are masters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import family_config, family_tensors

from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.formats import Tensor
from ryzanstein_llm.models.stored_ternary import find_scales

NAME = "model.layers.1.mlp.down_proj.weight"


def stored(values: np.ndarray, dtype: str) -> Tensor:
    """Values as a checkpoint stores them; they must be exact in the dtype."""
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        assert not (bits & 0xFFFF).any()
        return Tensor(NAME, dtype, (bits >> 16).astype(np.uint16))
    converted = values.astype({"F16": np.float16, "F32": np.float32}[dtype])
    assert (converted == values).all()
    return Tensor(NAME, dtype, converted)


def weights(form: str, **changes: Any) -> np.ndarray:
    config = family_config("llama", **{"intermediate_size": 700, "hidden_size": 300, **changes})
    return family_tensors(config, form, 7)[NAME]


def every_scale(found: Any, columns: int) -> np.ndarray:
    """The scale of each column, (rows or 1, columns)."""
    return np.repeat(found.values, found.group, axis=1)[:, :columns]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize(
    ("form", "group", "shape"),
    [
        ("tensor", 700, (1, 1)),
        ("row", 700, (300, 1)),
        ("group64", 64, (300, 11)),
        ("group128", 128, (300, 6)),
        ("group256", 256, (300, 3)),
    ],
)
def test_the_widest_group_that_shares_a_scale(
    form: str, group: int, shape: tuple[int, int], dtype: str
) -> None:
    values = weights(form)
    found = find_scales(stored(values, dtype))
    assert found is not None
    assert found.group == group
    assert found.values.shape == shape
    assert found.values.dtype == np.float32
    assert (np.sign(values) * every_scale(found, 700) == values).all()
    assert (found.one is not None) == (form == "tensor")


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_masters_are_not_ternary(dtype: str) -> None:
    values = weights("master").astype(np.float16).astype(np.float32)
    tensor = stored(values, dtype) if dtype != "BF16" else stored(weights("master"), dtype)
    assert find_scales(tensor) is None


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 200])
def test_few_rows_and_columns(rows: int, columns: int, rng: np.random.Generator) -> None:
    values = 0.25 * rng.integers(-1, 2, (rows, columns)).astype(np.float32)
    values[0, 0] = 0.25
    found = find_scales(stored(values, "F16"))
    assert found is not None
    assert found.one == 0.25


def test_groups_of_zeros_have_scale_zero() -> None:
    values = weights("group64")
    values[3, 64:128] = 0
    values[5] = 0
    found = find_scales(stored(values, "F32"))
    assert found is not None
    assert found.group == 64
    assert found.values[3, 1] == 0
    assert not found.values[5].any()
    assert find_scales(stored(np.zeros((4, 70), np.float32), "F16")).one == 0


def test_negative_zero_is_zero() -> None:
    values = weights("tensor")
    values[values == 0] = -0.0
    assert find_scales(stored(values, "BF16")).one is not None


def test_a_scale_that_changes_inside_a_group_of_64_is_no_ternary_tensor() -> None:
    values = np.full((32, 128), 0.5, np.float32)
    values[:, 32:] = 0.25
    assert find_scales(stored(values, "F16")) is None


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_values_that_are_not_finite_are_not_ternary(bad: float) -> None:
    values = np.full((4, 64), bad, np.float32)
    assert find_scales(Tensor(NAME, "F32", values)) is None


def test_one_row_that_is_not_ternary_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ryzanstein_llm.models.stored_ternary.SLICE", 7000)  # ten rows at a time
    values = weights("group128")
    values[123, 5] = 3.0
    with pytest.raises(FormatError, match=r"down_proj.*120\.\.129"):
        find_scales(stored(values, "F32"))


@pytest.mark.parametrize("form", ["tensor", "row", "group128"])
def test_slices_change_nothing(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = stored(weights(form), "BF16")
    whole = find_scales(tensor)
    monkeypatch.setattr("ryzanstein_llm.models.stored_ternary.SLICE", 1)
    parts = find_scales(tensor)
    assert whole is not None
    assert parts is not None
    assert whole.group == parts.group
    assert (whole.values == parts.values).all()
