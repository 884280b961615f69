"""Float tensors that are ternary already: which weights share a scale, and which are masters.

Whether every weight is so is found out by packing; see `test_group_models.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import family_config, family_tensors

from ryzanstein_llm.formats import Tensor
from ryzanstein_llm.models.stored_ternary import sampled_group

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


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize(
    ("form", "group"),
    [("tensor", 704), ("row", 704), ("group64", 64), ("group128", 128), ("group256", 256)],
)
def test_the_largest_group_that_shares_a_scale(form: str, group: int, dtype: str) -> None:
    assert sampled_group(stored(weights(form), dtype)) == group


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_masters_are_not_ternary(dtype: str) -> None:
    values = weights("master")
    if dtype != "BF16":
        values = values.astype(np.float16).astype(np.float32)
    assert sampled_group(stored(values, dtype)) is None


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 200])
def test_few_rows_and_columns(rows: int, columns: int, rng: np.random.Generator) -> None:
    values = 0.25 * rng.integers(-1, 2, (rows, columns)).astype(np.float32)
    group = sampled_group(stored(values, "F16"))
    assert group is not None
    assert columns <= group < columns + 64
    assert group % 64 == 0


def test_groups_of_zeros_have_any_scale() -> None:
    values = weights("group64")
    values[3, 64:128] = 0
    values[5] = 0
    assert sampled_group(stored(values, "F32")) == 64
    assert sampled_group(stored(np.zeros((4, 70), np.float32), "F16")) == 128


def test_negative_zero_is_zero() -> None:
    values = weights("tensor")
    values[values == 0] = -0.0
    assert sampled_group(stored(values, "BF16")) == 704


def test_a_scale_that_changes_inside_a_group_of_64_is_no_ternary_tensor() -> None:
    values = np.full((32, 128), 0.5, np.float32)
    values[:, 32:] = 0.25
    assert sampled_group(stored(values, "F16")) is None


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_values_that_are_not_finite_are_not_ternary(bad: float) -> None:
    values = np.full((4, 64), bad, np.float32)
    assert sampled_group(Tensor(NAME, "F32", values)) is None


def test_the_last_columns_and_the_last_row_are_looked_at() -> None:
    """A sample of the beginning alone would take masters with ternary first rows for ternary."""
    for place in ((-1, 0), (0, -1)):
        values = weights("row")
        values[place] = 3.0
        assert sampled_group(stored(values, "F32")) != 704
