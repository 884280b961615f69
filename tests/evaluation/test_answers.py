"""Continuations of many prompts, each as its task asks for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ryzanstein_llm import BitNetModel, errors
from ryzanstein_llm.evaluation import answers, cut, generate_answers, read_generation_kwargs

TEXTS = ["Once upon a time", "The fox said", "Once upon a time there was", "A king"]


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


def ask(model: BitNetModel, text: str, **given: Any) -> tuple[list[int], Any]:
    return model.tokenize(text), read_generation_kwargs(given, model, seed=5)


def test_answers_are_those_of_each_prompt_alone(model: BitNetModel) -> None:
    kinds: list[dict[str, Any]] = [
        {"max_gen_toks": 6}, {"max_gen_toks": 30, "until": [".", ","]},
        {"max_gen_toks": 6, "temperature": 0.8},
    ]  # fmt: skip
    asked = [ask(model, text, **given) for given in kinds for text in TEXTS]
    found = generate_answers(model, asked, 512)
    for (ids, task), answer in zip(asked, found, strict=True):
        alone = model.generate(
            ids, max_tokens=task.max_tokens, stop=task.until, sampling=task.sampling,
            return_result=True,
        )  # fmt: skip
        assert answer == alone.ids


def test_the_tokens_of_the_stop_string_are_there_and_the_text_is_cut(model: BitNetModel) -> None:
    (ids, task) = ask(model, TEXTS[0], until=["king"], max_gen_toks=100)
    (found,) = generate_answers(model, [(ids, task)], 512)
    text = model.detokenize(found)
    assert "king" in text
    assert cut(text, task.until) == model.generate(ids, max_tokens=100, stop="king",
                                                   sampling=task.sampling)  # fmt: skip


def test_equal_prompts_have_one_greedy_answer_and_different_samples(model: BitNetModel) -> None:
    same = [ask(model, TEXTS[0], max_gen_toks=12)] * 3
    assert len({tuple(ids) for ids in generate_answers(model, same, 512)}) == 1
    ids, task = ask(model, TEXTS[0], max_gen_toks=12, temperature=1.0)
    samples = generate_answers(model, [(ids, task)] * 3, 512)
    assert len({tuple(each) for each in samples}) == 3
    for seed, sample in enumerate(samples, start=5):
        alone = model.generate(
            ids, max_tokens=12, sampling=task.sampling, seed=seed, return_result=True
        )
        assert sample == alone.ids


def test_prompts_lose_their_beginning_if_the_answer_needs_the_room(
    model: BitNetModel, caplog: pytest.LogCaptureFixture
) -> None:
    ids, task = ask(model, "Once upon a time there was a king who had three sons", max_gen_toks=6)
    with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
        (found,) = generate_answers(model, [(ids, task)], 10)
    (short,) = generate_answers(model, [(ids[-4:], task)], 512)
    assert found == short
    assert caplog.messages == ["1 context lost the beginning to fit max_length=10"]
    with pytest.raises(
        errors.InvalidParameterError, match=r"max_gen_toks must be less .*=6, not 6"
    ):
        generate_answers(model, [(ids, task)], 6)


@pytest.mark.parametrize("together", [1, 3, 256])
def test_results_and_progress_come_part_by_part(
    model: BitNetModel, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(model, text, max_gen_toks=4) for text in [*TEXTS, TEXTS[1]]]
    asked += [ask(model, TEXTS[0], max_gen_toks=4, temperature=1.0)] * 2
    whole = generate_answers(model, asked, 512)
    monkeypatch.setattr(answers, "TOGETHER", together)
    seen: list[tuple[int, int, str]] = []
    early: dict[int, list[int]] = {}
    found = generate_answers(model, asked, 512, lambda *each: seen.append(each), early.__setitem__)
    assert found == whole == [early[place] for place in range(len(asked))]
    assert seen[-1] == (6, 6, "generating")  # one greedy text serves two requests
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
