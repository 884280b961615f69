"""Perplexity: the definition, agreement with the reference, equality on every tier.

Over 1,434 tokens two correct float32 implementations differ by about 3e-4 of the
perplexity, because activations near a rounding tie are rounded apart (see
`reference.steady`). So the whole tale is compared to 1e-3, the excerpts without ties to
six digits, and a whole book, over which the differences average out, to four.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from demo_model import BOS, DEMO, encode, steady_excerpts, tale
from reference import (
    BitNetReference,
    bitnet_config,
    log_softmax,
    perplexity,
    quantization_config,
    random_tensors,
    write_checkpoint,
)

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.kernels import cpu


@pytest.fixture(scope="module")
def reference() -> BitNetReference:
    return BitNetReference.open(DEMO)


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1, kv_dtype="float32") as opened:
        yield opened


def nats(logits: np.ndarray, ids: Sequence[int]) -> float:
    """Negative log likelihood of ids[1:] given the logits of ids[:-1]."""
    likelihood = log_softmax(logits[: len(ids) - 1])
    return -float(np.sum(likelihood[np.arange(len(ids) - 1), list(ids[1:])]))


def test_perplexity_is_that_of_the_models_own_logits(model: BitNetModel) -> None:
    # Consecutive windows of the context length, BOS first in each and not scored.
    text = tale()
    expected = perplexity(model.forward, encode(text), BOS, model.context_length)
    result = model.perplexity(text)
    assert result.tokens == expected.tokens
    assert result.perplexity == pytest.approx(expected.perplexity, rel=1e-6)
    assert result.bits_per_byte == pytest.approx(expected.bits_per_byte(text), rel=1e-6)


def test_ids_that_begin_with_beginning_of_text_have_it_once(model: BitNetModel) -> None:
    ids = encode(tale())[:60]
    expected = model.perplexity(ids)
    assert model.perplexity([BOS, *ids]) == expected
    assert model.perplexity([BOS, BOS, *ids]).tokens == len(ids) + 1  # the second is scored
    assert model.perplexity([BOS]).tokens == 1


def test_windows_are_as_long_as_the_context(tmp_path: Path) -> None:
    text = tale()[:1000]
    with BitNetModel(n_threads=1, context_length=32) as short:
        expected = perplexity(short.forward, encode(text), BOS, 32)
        assert short.perplexity(text).perplexity == pytest.approx(expected.perplexity, rel=1e-6)


def test_without_bos_the_first_token_of_a_window_is_not_scored(tmp_path: Path) -> None:
    config = bitnet_config(max_position_embeddings=8, bos_token_id=None, eos_token_id=None)
    config["quantization_config"] = quantization_config("packed", "autobitlinear")
    write_checkpoint(tmp_path, config, random_tensors(config, "packed", "autobitlinear", 0))
    ids = list(range(20))
    with BitNetModel(tmp_path, n_threads=1) as model:
        result = model.perplexity(ids)
        windows = [ids[0:8], ids[8:16], ids[16:20]]
        expected = sum(nats(model.forward(window), window) for window in windows)
    assert result.tokens == 7 + 7 + 3
    assert result.nll == pytest.approx(expected, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(expected / 17), rel=1e-6)
    assert result.bits_per_byte is None


def test_the_tale_is_as_likely_as_the_reference_says(
    model: BitNetModel, reference: BitNetReference
) -> None:
    expected = perplexity(reference.forward, encode(tale()), BOS, model.context_length)
    assert model.perplexity(tale()).perplexity == pytest.approx(expected.perplexity, rel=1e-3)


def test_excerpts_without_rounding_ties_agree_to_six_digits(
    model: BitNetModel, reference: BitNetReference
) -> None:
    excerpts = steady_excerpts()
    ours = sum(nats(model.forward(ids), ids) for ids in excerpts)
    theirs = sum(nats(reference.forward(ids), ids) for ids in excerpts)
    tokens = sum(len(ids) - 1 for ids in excerpts)
    assert math.exp(ours / tokens) == pytest.approx(math.exp(theirs / tokens), rel=1e-6)


def test_every_tier_gives_the_same_perplexity() -> None:
    before = cpu.current_tier()
    results = {}
    try:
        for tier in cpu.available_tiers():
            cpu.use_tier(tier)
            with BitNetModel(n_threads=2) as model:
                results[tier] = model.perplexity(tale()).perplexity
    finally:
        cpu.use_tier(before)
    assert len(set(results.values())) == 1, results


def tales_directory() -> Path | None:
    """Public-domain tales: where RYZANSTEIN_TALES says, or beside the checkout."""
    given = os.environ.get("RYZANSTEIN_TALES")
    directory = Path(given) if given else Path(__file__).parents[2] / "shared" / "tales"
    return directory if (directory / "the-brown-fairy-book.txt").is_file() else None


@pytest.fixture(scope="module")
def book() -> str:
    directory = tales_directory()
    if directory is None:
        pytest.skip("the-brown-fairy-book.txt not found: set RYZANSTEIN_TALES to its directory")
    return (directory / "the-brown-fairy-book.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_over_a_whole_book_kinds_of_cache_differ_by_less_than_a_thousandth(
    model: BitNetModel, book: str
) -> None:
    # One standard error of a difference is 1e-4, reckoned from the differences of windows.
    found = [model.perplexity(book).perplexity]
    for kind in ("bfloat16", "int8"):
        with BitNetModel(n_threads=1, kv_dtype=kind) as other:
            found.append(other.perplexity(book).perplexity)
    assert max(found) / min(found) < 1.001, found


@pytest.mark.slow
def test_a_whole_book_agrees_to_four_digits(
    model: BitNetModel, reference: BitNetReference, book: str
) -> None:
    result = model.perplexity(book)
    assert result.tokens == 130_731
    # What transformers gives in float32 for the master weights of this model.
    assert result.perplexity == pytest.approx(28.08132, rel=1e-4)
    assert result.bits_per_byte == pytest.approx(1.246092, rel=1e-4)
    expected = perplexity(reference.forward, encode(book), BOS, model.context_length)
    # Activations that round apart in float64 move a window either way: over the book by 8e-5, one
    # standard deviation, reckoned from the differences of its windows. This allows four.
    assert result.perplexity == pytest.approx(expected.perplexity, rel=3e-4)
