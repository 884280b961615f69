"""Arguments of `embed` that make no sense: a typed error that names the argument, the index of the
text and the value, before anything is computed."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import write_embedding_model
from spoilt import refuses

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.engine import pooling
from ryzanstein_llm.errors import (
    ContextOverflowError,
    InvalidParameterError,
    TokenizerMissingError,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    path = write_embedding_model(tmp_path_factory.mktemp("model"), max_position_embeddings=32)
    with BitNetModel(path, n_threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(*_: object) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr(pooling, "_extend", compute)


def test_the_fixture_above_would_notice(model: BitNetModel) -> None:
    with pytest.raises(AssertionError, match="it was computed"):
        model.embed([[1]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("batch_size", value) for value in (0, -1, 1.5, "2", True, None, math.nan)],
        *[("truncate_dim", value) for value in (0, -1, 161, 1.5, "2", True)],
        *[("pooling", value) for value in ("max", "", 1, "Mean", ["mean"])],
        *[("normalize", value) for value in (1, None, "yes")],
        *[("truncate", value) for value in (1, None, "yes")],
        ("progress", 5),
    ],
)
def test_options_out_of_range(model: BitNetModel, name: str, value: Any) -> None:
    with refuses(InvalidParameterError, name, repr(value)):
        model.embed(["a"], **{name: value})


def test_a_prompt_that_is_no_text(model: BitNetModel) -> None:
    with refuses(InvalidParameterError, "prompt", "bytes"):
        model.embed(["a"], prompt=b"query")  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", ["a king", b"a", None, 5, {"a": 1}, {"a"}, 1.5])
def test_texts_that_are_no_list(model: BitNetModel, texts: Any) -> None:
    with refuses(InvalidParameterError, "texts must be a list", type(texts).__name__):
        model.embed(texts)


def test_one_text_is_told_to_be_put_into_a_list(model: BitNetModel) -> None:
    with pytest.raises(InvalidParameterError, match="put it into a list"):
        model.embed("a king")


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (None, "None"), (5, "5"), (1.5, "1.5"), (math.nan, "nan"), (b"a", "bytes"),
        ({1}, "set"), ({}, "dict"), (np.zeros((2, 2), np.int64), "(2, 2)"), (["a"], "'a'"),
        ([-1], "-1"), ([300], "300"), ([1.0], "1.0"), ([True], "True"), (object(), "object"),
        ([], "no tokens"), ("\ud800", "surrogate"),
    ],
)  # fmt: skip
def test_a_bad_text_is_named_by_its_index(model: BitNetModel, item: Any, shown: str) -> None:
    with refuses(InvalidParameterError, "texts[2]", shown):
        model.embed(["a", [4], item, "b"])


def test_a_text_without_tokens(tmp_path: Path) -> None:
    write_embedding_model(tmp_path, bos_token_id=None)
    with BitNetModel(tmp_path, n_threads=1) as model:
        assert model.tokenize("") == []
        with refuses(InvalidParameterError, "texts[1]", "no tokens"):
            model.embed(["a", ""])


def test_a_text_longer_than_the_context(model: BitNetModel) -> None:
    for item in ([5] * 33, "a b " * 33):
        with pytest.raises(ContextOverflowError, match=r"^texts\[1\]: \d+ tokens.*32") as caught:
            model.embed(["a", item])
        error = pickle.loads(pickle.dumps(caught.value))
        assert str(error) == str(caught.value)
        assert "pass truncate=True" in str(error)
        assert (error.needed, error.context_length) == (caught.value.needed, 32)


def test_a_prompt_in_front_of_ids(model: BitNetModel) -> None:
    with refuses(InvalidParameterError, "texts[1]", "prompt"):
        model.embed(["a", [5]], prompt="query: ")


def test_text_without_a_tokenizer(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with BitNetModel(tmp_path, n_threads=1) as model, pytest.raises(TokenizerMissingError):
        model.embed([[5], "a"])


@pytest.mark.parametrize(
    "wrap",
    [tuple, iter, lambda texts: (text for text in texts), np.array],
    ids=["tuple", "iterator", "generator", "array"],
)
def test_what_else_may_hold_texts(
    model: BitNetModel, wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    texts = ["a king", "three sons"]
    assert (model.embed(wrap(texts)) == model.embed(texts)).all()
    ids = [[5, 6], [7, 8]]
    assert (model.embed(wrap(ids)) == model.embed(ids)).all()
