"""The built-in demo model against PyTorch transformers, packed and as float master weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from demo_model import (
    BOS,
    DECIDED_PROMPTS,
    DEMO,
    encode,
    steady_excerpts,
    tale,
    write_demo_masters,
)
from extras import needs_extra
from reference import greedy_choices, perplexity, relative_error
from transformers_model import TransformersModel, load_as_published

from ryzanstein_llm import BitNetModel

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_masters(tmp_path_factory.mktemp("masters"))


@pytest.fixture(scope="module", params=["packed", "master"])
def pair(request: pytest.FixtureRequest, masters: Path) -> Iterator[tuple]:
    directory = DEMO if request.param == "packed" else masters
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        yield model, TransformersModel(directory)


def test_logits_are_those_of_transformers(pair: tuple) -> None:
    model, transformers = pair
    for ids in steady_excerpts():
        error = relative_error(model.forward(ids), transformers.logits(ids))
        assert np.max(error) < 1e-5


@pytest.mark.parametrize("prompt", DECIDED_PROMPTS)
def test_64_greedy_tokens_are_those_of_transformers(pair: tuple, prompt: str) -> None:
    model, transformers = pair
    ids = list(model.generate(prompt, max_tokens=64, return_result=True).ids)
    assert len(ids) == 64
    assert ids == greedy_choices(transformers.logits, [BOS, *encode(prompt)], ids)


def test_perplexity_of_the_tale_is_that_of_transformers(pair: tuple) -> None:
    # As near as two float32 implementations come over 1,434 tokens: see tests/test_perplexity.py.
    model, transformers = pair
    expected = perplexity(transformers.logits, encode(tale()), BOS, model.context_length)
    assert model.perplexity(tale()).perplexity == pytest.approx(expected.perplexity, rel=1.5e-3)


def test_masters_loaded_by_transformers_itself_give_the_same_logits(masters: Path) -> None:
    # Guards `TransformersModel`: nothing is lost by not going through `from_pretrained`.
    needs_extra("parity", "accelerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = load_as_published(masters)
    ids = [BOS, *encode("Once upon a time")]
    np.testing.assert_array_equal(published.logits(ids), TransformersModel(masters).logits(ids))
