"""Arguments that make no sense: each raises a typed error that names the argument and its value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spoilt import refuses, write_spoilt

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.errors import (
    ClosedError,
    ContextOverflowError,
    EmptyPromptError,
    InvalidParameterError,
    TokenizerMissingError,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    with BitNetModel(write_spoilt(tmp_path_factory.mktemp("good")), n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


NOT_COUNTS = [-1, 1.5, "2", True, math.nan]


@pytest.mark.parametrize("value", [0, *NOT_COUNTS, 10**6])
def test_n_threads(value: Any) -> None:
    with refuses(InvalidParameterError, "n_threads", value):
        BitNetModel(n_threads=value)


@pytest.mark.parametrize("value", [0, *NOT_COUNTS, 513, 10**12])
def test_context_length(value: Any) -> None:
    with refuses(InvalidParameterError, "context_length", value):
        BitNetModel(context_length=value)


@pytest.mark.parametrize("value", ["float8", "", 16, np.float32])
def test_kv_dtype(value: Any) -> None:
    with refuses(InvalidParameterError, "kv_dtype", value):
        BitNetModel(kv_dtype=value)


@pytest.mark.parametrize("value", ["2", "", 1.6, "tiles"])
def test_weight_format(value: Any) -> None:
    with refuses(InvalidParameterError, "weight_format", value):
        BitNetModel(weight_format=value)


@pytest.mark.parametrize("value", ["yes", 1, 0, "auto"])
def test_skipping(value: Any) -> None:
    with refuses(InvalidParameterError, "skipping", value):
        BitNetModel(skipping=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("max_tokens", value) for value in [*NOT_COUNTS, 10**12]],
        *[("temperature", value) for value in [-1, -1e-9, math.nan, math.inf, 1e6, "hot", True]],
        *[("top_p", value) for value in [0, 2, -0.5, 1.0001, math.nan, "0.9"]],
        *[("top_k", value) for value in [*NOT_COUNTS, 10**12]],
        *[("min_p", value) for value in [-0.1, 1.1, math.nan]],
        *[("typical_p", value) for value in [0, 1.1, math.nan]],
        *[("repetition_penalty", value) for value in [0, -1, math.nan, math.inf]],
        *[("presence_penalty", value) for value in [math.nan, -1000, "x"]],
        *[("frequency_penalty", value) for value in [math.inf, 1000]],
        *[("seed", value) for value in [-1, 1.5, 2**64, "x"]],
        ("ignore_eos", "yes"),
        ("ignore_eos", 1),
        ("sampling", {"temperature": 1.0}),
    ],
)
def test_generation_parameters_out_of_range(demo: BitNetModel, name: str, value: Any) -> None:
    with refuses(InvalidParameterError, name, value):
        demo.generate("Once", **{name: value})
    with refuses(InvalidParameterError, name, value):
        demo.stream("Once", **{name: value})  # at once, not at the first piece
    with demo.session() as session, refuses(InvalidParameterError, name, value):
        session.generate("Once", **{name: value})


@pytest.mark.parametrize("stop", ["", [""], ["end", ""], [1], [b"end"], 5])
def test_stop_strings_that_are_none(demo: BitNetModel, stop: Any) -> None:
    with refuses(InvalidParameterError, "stop"):
        demo.generate("Once", max_tokens=1, stop=stop)


def test_a_misspelt_parameter_is_named(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "temprature", "did you mean temperature?"):
        demo.generate("Once", temprature=0.5)
    with refuses(InvalidParameterError, "max_new_tokens", "max_tokens"):  # the name elsewhere
        demo.generate("Once", max_new_tokens=5)


@pytest.mark.parametrize(("name", "value"), [("temperature", -1), ("top_p", 0), ("seed", -1)])
def test_sampling_params_check_themselves(name: str, value: Any) -> None:
    with refuses(InvalidParameterError, name, value):
        SamplingParams(**{name: value})


BAD_IDS = [[-1], [50], [3, 50], [2**70], [1.0], [None], [True], [b"a"]]


@pytest.mark.parametrize("ids", BAD_IDS)
def test_token_ids_out_of_range(model: BitNetModel, ids: list[Any]) -> None:
    position = f"[{len(ids) - 1}]"
    with refuses(InvalidParameterError, f"prompt{position}", ids[-1]):
        model.generate(ids, max_tokens=1, return_result=True)
    with refuses(InvalidParameterError, f"ids{position}", ids[-1]):
        model.forward(ids)
    with refuses(InvalidParameterError, position, ids[-1]):
        model.perplexity([1, 2, *ids][-len(ids) :])


@pytest.mark.parametrize("ids", [["a"], [[1, 2]]])
def test_several_prompts_are_no_token_ids(model: BitNetModel, ids: list[Any]) -> None:
    """`generate` takes them for a batch."""
    with refuses(InvalidParameterError, "ids[0]", ids[0]):
        model.forward(ids)
    with refuses(InvalidParameterError, "[0]", ids[0]):
        model.perplexity(ids)


@pytest.mark.parametrize("ids", [b"abc", bytearray(b"abc"), "abc"])
def test_neither_bytes_nor_text_pass_for_ids(demo: BitNetModel, ids: Any) -> None:
    with refuses(InvalidParameterError, "ids", type(ids).__name__):
        demo.forward(ids)
    with refuses(InvalidParameterError, "ids", type(ids).__name__):
        demo.detokenize(ids)
    if not isinstance(ids, str):
        with refuses(InvalidParameterError, "text", type(ids).__name__):
            demo.perplexity(ids)


@pytest.mark.parametrize("ids", [[-1], [4096], [1.5]])
def test_ids_without_text(demo: BitNetModel, ids: list[Any]) -> None:
    with refuses(InvalidParameterError, "ids[0]", ids[0]):
        demo.detokenize(ids)


@pytest.mark.parametrize("prompt", [None, 5, b"Once", 1.5, np.zeros((2, 2), np.int64), object()])
def test_prompts_that_are_neither_text_nor_ids(demo: BitNetModel, prompt: Any) -> None:
    with refuses(InvalidParameterError, "prompt"):
        demo.generate(prompt, max_tokens=1)


@pytest.mark.parametrize("text", [None, 5])
def test_what_is_no_sequence_is_told_that_text_would_do(demo: BitNetModel, text: Any) -> None:
    with refuses(InvalidParameterError, "prompt must be str or token ids", text):
        demo.generate(text, max_tokens=1)
    with refuses(InvalidParameterError, "text must be str or token ids", text):
        demo.perplexity(text)


def test_an_iterator_of_texts_should_be_a_list(demo: BitNetModel) -> None:
    texts: Any = (text for text in ("Once", "The king"))
    with pytest.raises(
        InvalidParameterError, match=r"prompt\[0\] is a text: 'Once'; .* a list of it"
    ):
        demo.generate(texts)


@pytest.mark.parametrize("text", [None, 5, b"Once", ["Once"]])
def test_text_that_is_no_text(demo: BitNetModel, text: Any) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.tokenize(text)


def test_text_that_unicode_cannot_encode(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.generate("a lone surrogate: \ud800", max_tokens=1)


def test_prompts_longer_than_the_context(model: BitNetModel, demo: BitNetModel) -> None:
    with refuses(ContextOverflowError, 33, 32):
        model.generate([1] * 33, return_result=True)
    with model.session() as session, refuses(ContextOverflowError, 33, 32):
        session.generate([1] * 33, return_result=True)
    with refuses(ContextOverflowError, 513, 512):
        demo.stream([1] * 513)  # at once, not at the first piece
    with pytest.raises(ContextOverflowError) as caught:
        model.forward([1] * 33)
    assert "too many ids; pass fewer" in str(caught.value)
    assert (caught.value.needed, caught.value.context_length) == (33, 32)


def test_a_cache_that_is_full(model: BitNetModel) -> None:
    cache = model.new_cache()
    model.forward([1] * 30, cache)
    with refuses(ContextOverflowError, 33, 32, "the cache has 30 already; truncate it"):
        model.forward([1, 2, 3], cache)
    assert len(cache) == 30


def test_a_cache_of_another_model(model: BitNetModel, demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "cache"):
        model.forward([1], demo.new_cache())
    with BitNetModel() as same_shapes, refuses(InvalidParameterError, "cache"):
        demo.forward([1], same_shapes.new_cache())
    with refuses(InvalidParameterError, "cache", "a cache"):
        model.forward([1], "a cache")


@pytest.mark.parametrize("which", ["first", "", None, 1, ["last"]])
def test_logits_of_an_unknown_kind(model: BitNetModel, which: Any) -> None:
    with refuses(InvalidParameterError, "logits", which):
        model.forward([1], logits=which)


def test_nothing_to_compute(model: BitNetModel) -> None:
    with refuses(InvalidParameterError, "ids"):
        model.forward([])


def test_nothing_to_score(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.perplexity("")


@pytest.mark.parametrize("stride", [0, *NOT_COUNTS, 512])
def test_stride(demo: BitNetModel, stride: Any) -> None:
    with refuses(InvalidParameterError, "stride", stride):
        demo.perplexity("Once upon a time", stride=stride)


def test_a_context_too_short_to_score_anything() -> None:
    with (
        BitNetModel(n_threads=1, context_length=1) as model,
        refuses(InvalidParameterError, "context_length", 1),
    ):
        model.perplexity("Once upon a time")


@pytest.mark.parametrize("length", [*NOT_COUNTS, 4])
def test_truncating_to_what_is_not_there(model: BitNetModel, length: Any) -> None:
    cache = model.new_cache()
    model.forward([1, 2, 3], cache)
    with refuses(InvalidParameterError, "length", length):
        cache.truncate(length)


def test_text_without_a_tokenizer(model: BitNetModel) -> None:
    for call in (
        lambda: model.generate("Once"),
        lambda: model.generate([1], max_tokens=1),  # ids in, but text out
        lambda: model.tokenize("Once"),
        lambda: model.detokenize([1]),
        lambda: model.perplexity("Once"),
    ):
        with refuses(TokenizerMissingError, "tokenizer.json"):
            call()


def test_an_empty_prompt_with_nothing_to_start_from(tmp_path: Path) -> None:
    config = {"bos_token_id": None, "eos_token_id": None}
    with BitNetModel(write_spoilt(tmp_path, config), n_threads=1) as model:
        for prompt in ("", []):
            with refuses(EmptyPromptError, "BOS"):
                model.generate(prompt, max_tokens=1, return_result=True)


def test_a_closed_model(tmp_path: Path) -> None:
    model = BitNetModel(write_spoilt(tmp_path), n_threads=1)
    session = model.session()
    model.close()
    for call in (
        lambda: model.forward([1]),
        lambda: model.generate([1], return_result=True),
        lambda: model.new_cache(),
        lambda: model.session(),
        lambda: session.generate([1], max_tokens=1, return_result=True),
    ):
        with refuses(ClosedError, "closed"):
            call()
