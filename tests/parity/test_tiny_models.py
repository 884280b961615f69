"""The library against PyTorch transformers, on tiny random models in both published forms.

Prompts are free of rounding ties by the NumPy reference (see `reference.steady`): there, logits
agree to five digits; the requirement is three.
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
from transformers_model import TransformersModel, projection_weights

from ryzanstein_llm import BitNetModel

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5


@pytest.mark.parametrize("name", TINY_MODELS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    directory = write_tiny_model(name, tmp_path)
    transformers = TransformersModel(directory)
    prompts = steady_prompts(BitNetReference.open(directory), 3, 8)
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        for ids in prompts:
            error = relative_error(model.forward(ids), transformers.logits(ids))
            assert np.max(error) < TOLERANCE


@pytest.mark.parametrize("form", ["packed", "master"])
def test_logits_are_those_of_transformers_over_hundreds_of_positions(
    form: str, tmp_path: Path
) -> None:
    write_random_checkpoint(tmp_path, form=form, **NARROW)
    transformers = TransformersModel(tmp_path)
    (ids,) = steady_prompts(BitNetReference.open(tmp_path), 1, 300)
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32") as model:
        error = relative_error(model.forward(ids), transformers.logits(ids))
    assert np.max(error) < TOLERANCE


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_projection_alone_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    # v, gate and up stand before a norm that hides a wrong scale from the logits.
    directory = write_tiny_model(name, tmp_path)
    transformers = TransformersModel(directory)
    with BitNetModel(directory, n_threads=1) as model:
        for index, layer in enumerate(model.graph.layers):
            for projection, expected in projection_weights(transformers, index).items():
                matrix = getattr(layer, projection)
                ours = matrix.dense() * np.float32(matrix.scale)
                np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=projection)
