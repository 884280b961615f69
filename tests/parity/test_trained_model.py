"""A model trained by `training` is the same model for the library and for transformers, in both
forms that are written, and the same as in training.

As in the other parity tests, prompts are steady (see `reference.steady`): there logits agree to
five digits.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from extras import needs_extra
from reference import BitNetReference, relative_error, steady_prompts
from toy_training import RunDirectory, settings, torch, train_toy
from transformers_model import TransformersModel, load_as_published

from ryzanstein_llm import BitNetModel
from training.export import rounded_to_bfloat16
from training.model import BitNet

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train_toy(tmp_path_factory.mktemp("toy"), settings(steps=12))


@pytest.fixture(scope="module")
def prompts(run: RunDirectory) -> list[list[int]]:
    return steady_prompts(BitNetReference.open(run.packed), 4, 8)


def trained_graph(run: RunDirectory) -> BitNet:
    """The model as training computes it, with the weights that were written."""
    state = run.load_state()
    assert state is not None
    weights = rounded_to_bfloat16(state["best"]["weights"])
    shape = settings().shape
    assert weights["model.embed_tokens.weight"].shape == (shape.vocabulary, shape.hidden)
    graph = BitNet(shape)
    graph.load_state_dict(weights)
    return graph.eval()


@pytest.mark.parametrize("form", ["packed", "bf16"])
def test_logits_are_those_of_transformers(
    run: RunDirectory, prompts: list[list[int]], form: str
) -> None:
    directory = run.path / form
    transformers = TransformersModel(directory)
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        for ids in prompts:
            error = relative_error(model.forward(ids), transformers.logits(ids))
            assert np.max(error) < TOLERANCE


def test_logits_are_those_of_training(run: RunDirectory, prompts: list[list[int]]) -> None:
    graph = trained_graph(run)
    with BitNetModel(run.packed, n_threads=1, kv_dtype="float32") as model, torch.no_grad():
        for ids in prompts:
            trained = graph(torch.tensor([ids]))[0].numpy()
            assert np.max(relative_error(model.forward(ids), trained)) < TOLERANCE


def test_both_forms_are_the_same_model_bit_for_bit(run: RunDirectory) -> None:
    ids = list(range(24))
    with BitNetModel(run.packed) as packed, BitNetModel(run.master) as master:
        np.testing.assert_array_equal(packed.forward(ids), master.forward(ids))


def test_masters_are_loaded_by_transformers_itself(
    run: RunDirectory, prompts: list[list[int]]
) -> None:
    needs_extra("parity", "accelerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = load_as_published(run.master)
    with BitNetModel(run.master, n_threads=1, kv_dtype="float32") as model:
        error = relative_error(model.forward(prompts[0]), published.logits(prompts[0]))
    assert np.max(error) < TOLERANCE


def test_text_becomes_the_same_ids_in_transformers(run: RunDirectory, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(run.packed)
    text = 'The miller said: "Good day,"\nand it cost 3 pence € so he swore.'
    with BitNetModel(run.packed) as model:
        assert tokenizer(text)["input_ids"] == model.tokenize(text)
        assert model.detokenize(model.tokenize(text)) == text


def test_the_model_has_learnt(run: RunDirectory) -> None:
    # Guards the tests above: random weights would pass them, too.
    rows = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    assert rows[-1]["bits_per_byte"] < rows[0]["bits_per_byte"] - 0.1
