"""A checkpoint that is overwritten in place while a model has it open, as `cp new old` does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import CheckpointChangedError
from ryzanstein_llm.models import arena
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


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose embedding counts as large, so that it stays a view of the file."""
    monkeypatch.setattr(arena, "COPIED_BYTES", 1000)
    make_checkpoint(tmp_path / "model", "tiny", tokenizer=False)
    return tmp_path / "model"


@pytest.mark.parametrize("change", [-1, 5])
def test_a_file_of_another_size_is_not_read_any_more(mapped: Path, change: int) -> None:
    weights = mapped / "model.safetensors"
    with BitNetModel(mapped, n_threads=1) as model, model.session() as session:
        before = model.forward([1, 2])
        size = weights.stat().st_size
        os.truncate(weights, max(0, size + change * 1000))
        for ask in (model.generate, session.generate):
            with pytest.raises(CheckpointChangedError, match=f"had {size} bytes"):
                ask([1, 2], max_tokens=1, return_result=True)
        with pytest.raises(CheckpointChangedError):
            model.forward([1, 2])
        with pytest.raises(CheckpointChangedError):
            model.perplexity([1, 2, 3])
    assert before.size


def test_a_file_that_is_written_to_is_named_once(mapped: Path, caplog) -> None:
    weights = mapped / "model.safetensors"
    with BitNetModel(mapped, n_threads=1) as model:
        model.forward([1, 2])
        os.utime(weights, ns=(1, 1))
        for _ in range(3):
            model.forward([1, 2])
    (record,) = caplog.records
    assert str(weights) in record.getMessage()


@pytest.mark.parametrize("happening", ["deleted", "replaced"])
def test_a_file_that_is_deleted_or_replaced_does_no_harm(mapped, caplog, happening: str) -> None:
    weights = mapped / "model.safetensors"
    with BitNetModel(mapped, n_threads=1) as model:
        expected = model.forward([1, 2])
        if happening == "replaced":
            (mapped / "new").write_bytes(b"other")
            os.replace(mapped / "new", weights)
        else:
            weights.unlink()
        assert np.array_equal(model.forward([1, 2]), expected)
    assert not caplog.records
