"""Embedder has the methods of sentence-transformers: their names, prompts and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import write_embedding_model, write_json
from spoilt import refuses

import ryzanstein_llm
from ryzanstein_llm import BitNetModel, Embedder
from ryzanstein_llm.embedding import cosine_similarity
from ryzanstein_llm.errors import ClosedError, InvalidParameterError, UnsupportedModelError

TEXTS = ["a king", "three sons", "the fox and the hen"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_embedding_model(tmp_path_factory.mktemp("model"))
    config = {"prompts": {"query": "find: ", "passage": "text: ", "fact": "is it so? "}}
    write_json(path / "config_sentence_transformers.json", config)
    return path


@pytest.fixture
def embedder(directory: Path) -> Iterator[Embedder]:
    with Embedder(directory, n_threads=1) as opened:
        yield opened


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool((first == second).all())


def test_one_text_gives_a_vector_and_several_give_rows(embedder: Embedder) -> None:
    rows = embedder.encode(TEXTS)
    assert (rows.shape, rows.dtype) == ((3, 160), np.float32)
    for text, row in zip(TEXTS, rows, strict=True):
        assert same(embedder.encode(text), row)
        assert same(embedder.encode_query(text), embedder.encode_query([text])[0])
    assert embedder.encode([]).shape == (0, 160)


def test_queries_and_documents_have_their_prompts(embedder: Embedder) -> None:
    model = embedder.model
    assert same(embedder.encode(TEXTS), model.embed(TEXTS))
    assert same(embedder.encode_query(TEXTS), model.embed(TEXTS, prompt="find: "))
    assert same(embedder.encode_document(TEXTS), model.embed(TEXTS, prompt="text: "))
    fact = model.embed(TEXTS, prompt="is it so? ")
    assert same(embedder.encode(TEXTS, "fact"), fact)
    for encode in (embedder.encode, embedder.encode_query, embedder.encode_document):
        assert same(encode(TEXTS, prompt_name="fact"), fact)
        assert same(encode(TEXTS, prompt="is it so? "), fact)
        assert same(encode(TEXTS, prompt=""), model.embed(TEXTS))


def test_a_default_prompt_is_of_encode_alone(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    config = {"prompts": {"fact": "is it so? "}, "default_prompt_name": "fact"}
    write_json(tmp_path / "config_sentence_transformers.json", config)
    with Embedder(tmp_path, n_threads=1) as embedder:
        bare = embedder.model.embed(TEXTS, prompt="")
        assert same(embedder.encode(TEXTS), embedder.model.embed(TEXTS, prompt="fact"))
        assert same(embedder.encode_query(TEXTS), bare)
        assert same(embedder.encode_document(TEXTS), bare)


def test_prompts_can_be_given(directory: Path) -> None:
    prompts = {"query": "search: ", "other": "well: "}
    with Embedder(directory, prompts=prompts, n_threads=1) as embedder:
        model = embedder.model
        assert embedder.prompts == {
            "query": "search: ", "passage": "text: ", "fact": "is it so? ", "other": "well: "
        }  # fmt: skip
        assert same(embedder.encode_query(TEXTS), model.embed(TEXTS, prompt="search: "))
        assert same(embedder.encode(TEXTS, "other"), model.embed(TEXTS, prompt="well: "))


def test_options_reach_the_model(directory: Path) -> None:
    with Embedder(directory, truncate_dim=7, n_threads=1, kv_dtype="float32") as embedder:
        assert embedder.model.kv_dtype == "float32"
        assert embedder.encode(TEXTS).shape == (3, 7)
        assert embedder.encode(TEXTS, truncate_dim=9).shape == (3, 9)
        assert embedder.encode_query("a", normalize_embeddings=False).shape == (7,)
        plain = embedder.encode(TEXTS, normalize_embeddings=False, batch_size=2)
        assert same(plain, embedder.model.embed(TEXTS, normalize=False, truncate_dim=7))


def test_bad_prompts_are_named(directory: Path, embedder: Embedder) -> None:
    with refuses(InvalidParameterError, "prompt_name", "'document'", "'passage'"):
        embedder.encode(TEXTS, prompt_name="document")
    with refuses(InvalidParameterError, "prompts", "list"):
        Embedder(directory, prompts=["query"])  # type: ignore[arg-type]
    with refuses(InvalidParameterError, "prompts['query']", "5"):
        Embedder(directory, prompts={"query": 5})  # type: ignore[dict-item]
    with refuses(InvalidParameterError, "truncate_dim", "0"):
        Embedder(directory, truncate_dim=0)


def test_it_closes_its_model(directory: Path) -> None:
    with Embedder(directory, n_threads=1) as embedder:
        assert repr(embedder) == f"Embedder({str(directory)!r})"
    with pytest.raises(ClosedError):
        embedder.encode("a")


def test_it_is_imported_on_first_use() -> None:
    assert "Embedder" in ryzanstein_llm.__all__
    assert ryzanstein_llm.Embedder is Embedder


def test_its_model_does_not_generate(embedder: Embedder) -> None:
    with pytest.raises(UnsupportedModelError):
        embedder.model.generate("a")


# ---- similarity ------------------------------------------------------------------------------


def exact_cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.sqrt((a**2).sum(1))[:, None] * np.sqrt((b**2).sum(1))[None]
    return (a @ b.T) / lengths


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 640, 1024, 4099])
def test_cosines(width: int, rng: np.random.Generator, tier: str) -> None:
    first = (3 * rng.standard_normal((5, width))).astype(np.float32)
    second = rng.standard_normal((67, width)).astype(np.float32)
    found = cosine_similarity(first, second)
    assert (found.shape, found.dtype) == ((5, 67), np.float32)
    # each vector is rounded once, and sums have sixteen lanes
    assert np.max(np.abs(found - exact_cosines(first, second))) < 1e-6


def test_cosines_have_the_same_bits_in_every_tier(rng: np.random.Generator) -> None:
    from ryzanstein_llm.kernels import cpu

    first, second = rng.standard_normal((2, 9, 1000)).astype(np.float32)
    former = cpu.current_tier()
    found = []
    for tier in cpu.available_tiers():
        cpu.use_tier(tier)
        found.append(cosine_similarity(first, second))
    cpu.use_tier(former)
    assert all(same(found[0], other) for other in found)


def test_cosines_of_numbers_far_from_one(rng: np.random.Generator) -> None:
    first, second = rng.standard_normal((2, 4, 100)).astype(np.float32)
    expected = exact_cosines(first, second)
    for scale in (1e-30, 1e-9, 1e30, 3e37):
        small = (first * np.float32(scale)).astype(np.float32)
        if scale >= 1e-9:
            assert np.max(np.abs(cosine_similarity(small, second) - expected)) < 1e-6
        else:  # shorter than 1e-12: divided by that, as in PyTorch
            assert np.max(np.abs(cosine_similarity(small, second))) < 1e-15


def test_zeros_are_like_nothing() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert same(cosine_similarity(zeros, np.ones((4, 3))), np.zeros((2, 4), np.float32))


def test_single_vectors_and_empty_lists(embedder: Embedder) -> None:
    rows = embedder.encode(TEXTS)
    assert embedder.similarity(rows[0], rows).shape == (1, 3)
    assert embedder.similarity(rows, rows[0]).shape == (3, 1)
    assert embedder.similarity(rows[0], rows[1]).shape == (1, 1)
    assert embedder.similarity(rows[:0], rows).shape == (0, 3)
    assert embedder.similarity(np.zeros((0, 160)), rows).shape == (0, 3)
    assert embedder.similarity(rows, rows[:0]).shape == (3, 0)
    assert same(
        embedder.similarity(rows.tolist(), rows[::-1]), embedder.similarity(rows, rows[::-1])
    )
    assert np.max(np.abs(np.diag(embedder.similarity(rows, rows)) - 1)) < 1e-6
    assert same(Embedder.similarity(rows, rows), cosine_similarity(rows, rows))


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ([[1.0, 2.0]], [[1.0]], "second has vectors of 1 numbers"),
        ([["a"]], [[1.0]], "first must be an array of numbers"),
        ([[1.0], [1.0, 2.0]], [[1.0]], "first must be an array of numbers"),
        ([[1.0]], np.ones((1, 1, 1)), r"second must have the shape \(n, d\).*not \(1, 1, 1\)"),
        ([[1.0]], 1.0, r"second must have the shape \(n, d\).*not \(\)"),
        ([[1.0]], [], r"second must have the shape"),
        ([[1e300]], [[1.0]], "first must hold finite numbers"),
        ([[1j]], [[1.0]], "first must be an array of numbers"),
        ([[np.nan]], [[1.0]], "first must hold finite numbers"),
        ([[1.0]], [[np.inf]], "second must hold finite numbers"),
        (None, [[1.0]], "first must be an array of numbers, not NoneType"),
    ],
)
def test_what_has_no_cosine(first: Any, second: Any, shown: str) -> None:
    with pytest.raises(InvalidParameterError, match=shown):
        cosine_similarity(first, second)


def test_a_model_opened_twice_gives_the_same(directory: Path, embedder: Embedder) -> None:
    with BitNetModel(directory, n_threads=2) as model:
        assert same(model.embed(TEXTS), embedder.encode(TEXTS))
