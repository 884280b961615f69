"""The whole model computes what the NumPy reference computes, and so does each projection.

Logits are compared to five digits on prompts without rounding ties (see `reference.steady`)
and loosely on any other. Scales are compared one by one: v, gate and up stand before a
norm, which would hide a wrong one from the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from demo_model import BOS, DECIDED_PROMPTS, DEMO, encode, steady_excerpts, write_demo_masters
from reference import (
    NARROW,
    PROJECTIONS,
    TINY_MODELS,
    BitNetReference,
    greedy_choices,
    relative_error,
    steady_prompts,
    write_random_checkpoint,
    write_tiny_model,
)

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.testing import make_checkpoint

STEADY_TOLERANCE = 1e-5
CLOSE_CALL = 0.3  # logits nearer than this may change places through a rounding tie


def open_model(directory: Path, **options: object) -> BitNetModel:
    # Keys and values in full precision: a narrower cache is another, coarser model. One thread,
    # because idle threads of ours and of NumPy's BLAS would wait for each other's cores.
    return BitNetModel(directory, n_threads=1, kv_dtype="float32", **options)


@pytest.fixture(params=TINY_MODELS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple]:
    directory = write_tiny_model(request.param, tmp_path)
    with open_model(directory) as model:
        yield model, BitNetReference.open(directory)


@pytest.fixture(scope="module", params=["packed", "master"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    directory = DEMO
    if request.param == "master":
        directory = write_demo_masters(tmp_path_factory.mktemp("masters"))
    with open_model(directory) as model:
        yield model, BitNetReference.open(directory)


def assert_same_projections(model: BitNetModel, reference: BitNetReference) -> None:
    assert len(model.graph.layers) == len(reference.layers)
    for ours, theirs in zip(model.graph.layers, reference.layers, strict=True):
        for name in PROJECTIONS:
            matrix, expected = getattr(ours, name), getattr(theirs, name)
            assert (matrix.rows, matrix.columns) == expected.t.shape, name
            np.testing.assert_array_equal(matrix.dense(), expected.t, name)
            assert matrix.scale == pytest.approx(expected.multiplier, rel=3e-7), name


def test_every_projection_has_the_ternary_weights_and_the_scale_of_the_file(tiny: tuple) -> None:
    assert_same_projections(*tiny)


def test_logits_are_the_references(tiny: tuple) -> None:
    model, reference = tiny
    for ids in steady_prompts(reference, 3, 8):
        error = relative_error(model.forward(ids), reference.forward(ids))
        assert np.max(error) < STEADY_TOLERANCE


def test_logits_stay_near_the_references_whatever_is_rounded_apart(tiny: tuple) -> None:
    model, reference = tiny
    ids = np.random.default_rng(5).integers(0, reference.shape.vocab, 300).tolist()
    error = relative_error(model.forward(ids), reference.forward(ids))
    assert np.median(error) < 0.03
    assert np.max(error) < 0.15


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
@pytest.mark.parametrize("form", ["packed", "master"])
def test_logits_are_the_references_over_hundreds_of_positions(
    form: str, linear_class: str, tmp_path: Path
) -> None:
    # 300 positions reach into the second block of the key/value cache.
    write_random_checkpoint(tmp_path, form=form, linear_class=linear_class, **NARROW)
    reference = BitNetReference.open(tmp_path)
    (ids,) = steady_prompts(reference, 1, 300)
    expected = reference.forward(ids)
    with open_model(tmp_path) as model:
        whole = model.forward(ids)
        cache = model.new_cache()
        steps = [model.forward(ids[:250], cache)]
        steps += [model.forward([token], cache) for token in ids[250:]]
    assert np.max(relative_error(whole, expected)) < STEADY_TOLERANCE
    assert np.max(relative_error(np.concatenate(steps), expected)) < STEADY_TOLERANCE


def test_last_logits_are_the_last_row(tiny: tuple) -> None:
    model, reference = tiny
    ids = [1, 2, 3]
    last = model.forward(ids, logits="last")
    assert last.shape == (1, reference.shape.vocab)
    assert last.dtype == np.float32
    np.testing.assert_array_equal(last, model.forward(ids)[-1:])


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
@pytest.mark.parametrize("form", ["packed", "master"])
def test_checkpoints_of_the_testing_module_are_read_alike(
    form: str, linear_class: str, tmp_path: Path
) -> None:
    config = {**TINY_CONFIG, "vocab_size": 700, "tie_word_embeddings": False}
    make_checkpoint(tmp_path / "model", config, form=form, linear_class=linear_class, seed=11)
    reference = BitNetReference.open(tmp_path / "model")
    with open_model(tmp_path / "model") as model:
        assert_same_projections(model, reference)
        for ids in steady_prompts(reference, 2, 6):
            error = relative_error(model.forward(ids), reference.forward(ids))
            assert np.max(error) < STEADY_TOLERANCE


TINY_CONFIG = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def test_demo_projections_are_those_of_the_file(demo: tuple) -> None:
    assert_same_projections(*demo)


def test_demo_logits_are_the_references(demo: tuple) -> None:
    model, reference = demo
    for ids in steady_excerpts():
        error = relative_error(model.forward(ids), reference.forward(ids))
        assert np.max(error) < STEADY_TOLERANCE


@pytest.mark.parametrize("prompt", DECIDED_PROMPTS)
def test_demo_continues_with_the_references_64_tokens(demo: tuple, prompt: str) -> None:
    model, reference = demo
    ids = list(model.generate(prompt, max_tokens=64, return_result=True).ids)
    assert len(ids) == 64
    assert ids == greedy_choices(reference.forward, [BOS, *encode(prompt)], ids)


@pytest.mark.parametrize("prompt", ["Once upon a time", "The wolf ran", ""])
def test_demo_never_takes_a_token_the_reference_finds_clearly_worse(
    demo: tuple, prompt: str
) -> None:
    model, reference = demo
    start = [BOS, *encode(prompt)]
    ids = list(model.generate(prompt, max_tokens=64, return_result=True).ids)
    logits = reference.forward([*start, *ids[:-1]])[len(start) - 1 :]
    behind = np.max(logits, axis=-1) - logits[np.arange(64), ids]
    assert np.max(behind) < CLOSE_CALL
