"""The NumPy reference computes what transformers computes.

With this, what is compared with the reference elsewhere (without PyTorch) is compared with
transformers as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reference import (
    NARROW,
    TINY_MODELS,
    BitNetReference,
    relative_error,
    steady_prompts,
    write_random_checkpoint,
    write_tiny_model,
)
from transformers_model import TransformersModel

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", TINY_MODELS)
def test_logits_agree_to_five_digits_where_nothing_is_near_a_rounding_tie(
    name: str, tmp_path: Path
) -> None:
    directory = write_tiny_model(name, tmp_path)
    reference, transformers = BitNetReference.open(directory), TransformersModel(directory)
    for ids in steady_prompts(reference, 3, 8):
        assert np.max(relative_error(reference.forward(ids), transformers.logits(ids))) < 1e-5


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_logits_agree_over_hundreds_of_positions(linear_class: str, tmp_path: Path) -> None:
    directory = write_random_checkpoint(tmp_path, linear_class=linear_class, **NARROW)
    reference, transformers = BitNetReference.open(directory), TransformersModel(directory)
    (ids,) = steady_prompts(reference, 1, 300)
    assert np.max(relative_error(reference.forward(ids), transformers.logits(ids))) < 1e-5


def test_an_inverted_scale_would_be_noticed(tmp_path: Path) -> None:
    # Guards the tests above: the same bytes under the other convention are another model.
    multiplied = write_random_checkpoint(tmp_path / "a", linear_class="autobitlinear")
    divided = tmp_path / "b"
    divided.mkdir()
    config = (multiplied / "config.json").read_text(encoding="utf-8")
    (divided / "config.json").write_text(config.replace("autobitlinear", "bitlinear"))
    (divided / "model.safetensors").write_bytes((multiplied / "model.safetensors").read_bytes())
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    ours = BitNetReference.open(multiplied).forward(ids)
    assert np.median(relative_error(ours, TransformersModel(divided).logits(ids))) > 0.1
