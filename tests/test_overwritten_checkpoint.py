"""A checkpoint that is overwritten in place while a model has it open, as `cp new old` does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.testing import make_checkpoint


@pytest.mark.parametrize("happening", ["cut", "overwritten"])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_a_small_model_does_not_depend_on_the_file_any_more(
    tmp_path: Path, dtype: str, happening: str
) -> None:
    path = tmp_path / "model"
    make_checkpoint(path, "tiny", dtype=dtype, tokenizer=False)
    weights = path / "model.safetensors"
    with BitNetModel(path, n_threads=1) as model:
        expected = model.forward([1, 2, 3])
        if happening == "cut":
            os.truncate(weights, 100)
        else:
            with weights.open("r+b") as file:
                file.write(os.urandom(weights.stat().st_size))
        assert np.array_equal(model.forward([1, 2, 3]), expected)


def test_norms_and_embedding_are_no_views_of_the_file(tmp_path: Path) -> None:
    with BitNetModel(write_small_model(tmp_path / "model"), n_threads=1) as model:
        model.forward(prompt(3))
        embedding = model.graph.embedding.matrix.array
        assert embedding.flags.owndata
        assert not embedding.flags.writeable
