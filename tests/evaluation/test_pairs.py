"""Scores of pairs of a context and a continuation, as evaluations ask for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from reference.ops import log_softmax
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, errors
from ryzanstein_llm.evaluation import pairs, progress, score_pairs

Pair = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    directory = write_small_model(tmp_path_factory.mktemp("small") / "model")
    with BitNetModel(directory, n_threads=1) as opened:
        yield opened


def reference(model: BitNetModel, pair: Pair, max_length: int) -> tuple[float, bool]:
    """One pair by itself, from the logits of `forward` in float64: the input is all but the last
    of the last `max_length + 1` tokens."""
    context, continuation = pair
    tokens = [*context, *continuation][-(max_length + 1) :]
    rows = log_softmax(model.forward(tokens[:-1]).astype(np.float64))[-len(continuation) :]
    total = sum(row[token] for row, token in zip(rows, continuation, strict=True))
    return float(total), [int(np.argmax(row)) for row in rows] == continuation


def some_pairs(model: BitNetModel) -> list[Pair]:
    """Contexts in disorder, some with several continuations, some that begin alike, twice the same
    pair, one that greedy decoding gives, and one that is longer than 40."""
    greedy = model.generate(prompt(20), max_tokens=5, ignore_eos=True, return_result=True).ids
    few = [(prompt(20), [7]), (prompt(20)[:12], [7, 8]), (prompt(30)[5:], [3, 4, 5])]
    return [*few, (prompt(20), [9, 9]), (prompt(20), greedy), few[0], (prompt(60), [1, 2]), few[1]]


@pytest.mark.parametrize("max_length", [40, 300])
def test_scores_are_those_of_each_pair_alone(model: BitNetModel, max_length: int) -> None:
    asked = some_pairs(model)
    found = score_pairs(model, asked, max_length)
    for pair, (logprob, greedy) in zip(asked, found, strict=True):
        total, all_likeliest = reference(model, pair, max_length)
        assert logprob == pytest.approx(total, abs=1e-5)  # float32 sums over the vocabulary
        assert greedy == all_likeliest
    assert [greedy for _, greedy in found].count(True) == 1


def test_the_whole_context_may_be_cut_off_but_one_token(model: BitNetModel) -> None:
    pair = (prompt(30), prompt(40)[30:])
    ((logprob, _),) = score_pairs(model, [pair], 10)
    assert logprob == pytest.approx(reference(model, pair, 10)[0], abs=1e-5)
    with pytest.raises(errors.InvalidParameterError, match=r"max_length must .* 10 tokens .* is 9"):
        score_pairs(model, [pair], 9)


def test_contexts_that_are_cut_are_counted_in_the_log(
    model: BitNetModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
        score_pairs(model, some_pairs(model), 300)
        assert not caplog.messages
        score_pairs(model, some_pairs(model), 40)
    assert caplog.messages == ["1 context lost the beginning to fit max_length=40"]


def test_a_context_is_computed_once(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counting(
        contexts: list[list[int]], continuations: list[list[int]], **rest: object
    ) -> object:
        asked.append([len(each) for each in continuations])
        return BitNetModel.score_each(model, contexts, continuations, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "score_each", counting)
    score_pairs(model, some_pairs(model), 300)
    assert sorted(asked[0]) == [1, 1, 2, 4]


@pytest.mark.parametrize("together", [1, 2, 256])
def test_results_and_progress_come_part_by_part(
    model: BitNetModel, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = some_pairs(model)
    whole = score_pairs(model, asked, 300)
    monkeypatch.setattr(pairs, "TOGETHER", together)
    seen: list[tuple[int, int, str]] = []
    early: dict[int, tuple[float, bool]] = {}
    found = score_pairs(model, asked, 300, lambda *each: seen.append(each), early.__setitem__)
    assert found == whole == [early[place] for place in range(len(asked))]
    assert seen[-1] == (4, 4, "scoring")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_progress_of_a_part_is_progress_of_the_whole() -> None:
    assert progress.part_of(None, 0, 5, "scoring") is None
    seen: list[object] = []
    part = progress.part_of(lambda *each: seen.append(each), 3, 5, "scoring")
    assert part is not None
    part(1, 2, "something else")
    assert seen == [(4, 5, "scoring")]


def test_nothing_to_score_is_nothing(model: BitNetModel) -> None:
    assert score_pairs(model, [], 300) == []
