"""Guessed tokens change nothing but the time: with good guesses and bad ones, every text, log
probability, cache and random number is what it is without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, GenerationResult, SamplingParams
from ryzanstein_llm.engine.pass_costs import PassCosts
from ryzanstein_llm.engine.prompt_lookup import Draft, PromptLookup
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.sampling import Sampler

NAME = "prompt_lookup_num_tokens"
Guess = Callable[[list[int], int], list[int]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)


@pytest.fixture
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=2) as model:
        yield model


@pytest.fixture(autouse=True)
def every_guess_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes."""
    monkeypatch.setattr(
        PassCosts, "worthwhile", lambda self, chances: [len(each) for each in chances]
    )


def written(source: Any, tokens: Any, new: int = 40, **options: Any) -> GenerationResult:
    options = {"ignore_eos": True, "max_tokens": new, NAME: 0, **options}
    result: GenerationResult = source.generate(tokens, return_result=True, **options)
    return result


@pytest.fixture
def guess(monkeypatch: pytest.MonkeyPatch) -> Callable[[Guess], None]:
    """Guesses come from a function of (tokens, how many may be guessed)."""

    def use(function: Guess) -> None:
        def draft(self: PromptLookup, tokens: list[int], most: int) -> Draft:
            found = function(list(tokens), min(most, self.most))
            return Draft(found, [0.5] * len(found))

        monkeypatch.setattr(PromptLookup, "draft", draft)

    return use


def right(*texts: list[int], wrong: int = 0, vocabulary: int = 301) -> Guess:
    """What one of these texts has next, but with every so-many-th token replaced by another."""

    def guesses(tokens: list[int], most: int) -> list[int]:
        for text in texts:
            if text[: len(tokens)] == tokens:
                end = min(len(text), len(tokens) + max(0, most))
                return [
                    (text[i] + 1) % vocabulary if wrong and i % wrong == 0 else text[i]
                    for i in range(len(tokens), end)
                ]
        return []

    return guesses


def wrong(tokens: list[int], most: int) -> list[int]:
    return [7] * max(0, most)


OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0, "seed": 1},
    "top_k": {"temperature": 0.9, "top_k": 9, "seed": 2},
    "top_p": {"temperature": 1.3, "top_p": 0.8, "seed": 3},
    "top_k, top_p": {"temperature": 1.3, "top_k": 30, "top_p": 0.8, "seed": 3},
    "min_p": {"temperature": 1.1, "min_p": 0.2, "seed": 4},
    "typical_p": {"temperature": 1.1, "typical_p": 0.6, "seed": 5},
    "repetition": {"repetition_penalty": 1.4},
    "repetition below 1": {"repetition_penalty": 0.6},
    "presence, sampled": {"temperature": 0.8, "top_k": 5, "presence_penalty": 1.5, "seed": 6},
    "frequency": {"frequency_penalty": 0.7},
    "negative frequency, sampled": {"temperature": 0.9, "frequency_penalty": -0.5, "seed": 7},
    "logprobs": {"logprobs": 3},
    "logprobs, sampled": {"logprobs": 0, "temperature": 1.0, "seed": 8},
    "bias": {"logit_bias": {9: 4.0, 11: -100}, "temperature": 0.7, "top_k": 4, "seed": 9},
    "min_tokens": {"min_tokens": 25, "stop_token_ids": list(range(100, 260)), "temperature": 1.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("every", [0, 2, 3, 5])
def test_tokens_and_log_probabilities_are_the_same(model, guess, options, every):
    options = {"seed": 1, **options}
    tokens = [*prompt(30), *prompt(30)[:9]]
    expected = written(model, tokens, **options)
    guess(right([*tokens, *expected.ids], wrong=every))
    model.engine.clear()
    found = written(model, tokens, **{NAME: 7, **options})
    assert found.ids == expected.ids
    assert found.text == expected.text
    assert found.logprobs == expected.logprobs
    assert found.finish_reason == expected.finish_reason
    if len(expected.ids) > 10:
        assert found.accepted_tokens > 0
        assert (found.accepted_tokens == found.drafted_tokens) == (every == 0)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_same_with_what_is_really_guessed(model, options):
    options = {"seed": 1, **options}
    tokens = [*prompt(12), *prompt(12), *prompt(12)]
    expected = written(model, tokens, 150, **options)
    found = written(model, tokens, 150, **{NAME: 15, **options})
    assert (found.ids, found.logprobs) == (expected.ids, expected.logprobs)


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("length", [250, 255, 256, 257, 505])
def test_across_the_blocks_of_the_cache_with_every_kind(path, guess, kv_dtype, length):
    with BitNetModel(path, n_threads=2, kv_dtype=kv_dtype) as model:
        expected = written(model, prompt(length), 30)
        text = [*prompt(length), *expected.ids]
        for function in (right(text), right(text, wrong=3), wrong):
            guess(function)
            model.engine.clear()
            assert written(model, prompt(length), 30, **{NAME: 9}).ids == expected.ids


def test_a_guess_takes_no_block_of_its_own(model, guess):
    guess(wrong)
    sequence = model.engine.sequence(
        prompt(254), Sampler(SamplingParams()), max_tokens=6, most_guesses=64
    )
    blocks, compute = [], model.engine._compute

    def watched(shares: Any) -> Any:
        blocks.append(len(sequence.cache.blocks))
        return compute(shares)

    model.engine._compute = watched
    model.engine.advance(sequence)
    assert blocks == [1, 1, 1, 2, 2, 2]
    assert len(sequence.tokens) == 260


def test_what_is_kept_after_wrong_guesses_is_the_same_bytes(path, guess, tmp_path):
    files = []
    for most, function in ((0, wrong), (9, wrong)):
        guess(function)
        with BitNetModel(path, n_threads=2) as model, model.session() as session:
            written(session, prompt(240), 40, **{NAME: most})
            files.append(tmp_path / f"session-{most}")
            session.save(files[-1])
            assert session.nbytes == 2 * model.engine.store.layout.block_bytes
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def passes(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each pass."""
    found, compute = list[int](), model.engine._compute

    def counting(shares: Any) -> Any:
        found.append(sum(share.rows for share in shares))
        return compute(shares)

    monkeypatch.setattr(model.engine, "_compute", counting)
    return found


def test_a_pass_for_many_tokens(model, guess, passes):
    expected = written(model, prompt(20), 41)
    guess(right([*prompt(20), *expected.ids]))
    model.engine.clear()
    passes.clear()
    found = written(model, prompt(20), 41, **{NAME: 9})
    assert found.ids == expected.ids
    assert passes == [20, 10, 10, 10, 10]  # the prompt, and four times ten tokens
    assert (found.drafted_tokens, found.accepted_tokens) == (36, 36)
    assert len(found.timings.decode) == 40


def test_nothing_is_computed_that_can_be_no_part_of_the_text(model, guess, passes):
    for new in range(1, 6):
        expected = written(model, prompt(20), new)
        guess(right([*prompt(20), *expected.ids, 5, 6, 7, 8]))
        model.engine.clear()
        passes.clear()
        assert written(model, prompt(20), new, **{NAME: 9}).ids == expected.ids
        assert sum(passes) == 20 + new - 1


def test_the_context_may_be_full_at_the_end(path, guess):
    with BitNetModel(path, n_threads=2, context_length=60) as model:
        expected = written(model, prompt(20), None)
        assert len(expected.ids) == 40
        guess(right([*prompt(20), *expected.ids, 5, 6, 7], wrong=4))
        assert written(model, prompt(20), None, **{NAME: 64}).ids == expected.ids


@pytest.mark.parametrize("most", [1, 3, 15])
def test_a_text_ends_where_it_would(model, guess, most):
    """By a stop token, and by a stop string, in the middle of what was guessed."""
    whole = written(model, prompt(20), 40)
    guess(right([*prompt(20), *whole.ids]))
    token = whole.ids[9]
    ended = written(model, prompt(20), 40, stop_token_ids=[token], **{NAME: most})
    assert ended.ids == whole.ids[: whole.ids.index(token)]
    assert ended.finish_reason == "stop"
    stop = whole.text[15:18]
    expected = written(model, prompt(20), 40, stop=stop)
    found = written(model, prompt(20), 40, stop=stop, **{NAME: most})
    assert (found.text, found.ids) == (expected.text, expected.ids)
    assert found.finish_reason == expected.finish_reason == "stop"


def test_processors_are_called_once_for_each_token(model, guess):
    calls: list[list[int]] = []

    def watch(tokens: list[int], logits: np.ndarray) -> None:
        calls.append(tokens)
        logits[tokens[-1]] -= 5

    expected = written(model, prompt(20), 12, logits_processor=watch)
    before, calls = calls, []
    guess(right([*prompt(20), *expected.ids], wrong=4))
    assert written(model, prompt(20), 12, logits_processor=watch, **{NAME: 5}).ids == expected.ids
    assert calls == before


def test_a_processor_that_fails_ends_its_request_only(model, guess):
    expected = written(model, prompt(20), 20)
    guess(right([*prompt(20), *expected.ids]))

    def fails(tokens: list[int], logits: np.ndarray) -> None:
        if len(tokens) == 26:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        written(model, prompt(20), 20, logits_processor=fails, **{NAME: 9})
    assert written(model, prompt(20), 20, **{NAME: 9}).ids == expected.ids


def test_batches_samples_and_long_prompts_beside_them(model, guess):
    tokens = [prompt(length) for length in (3, 40, 700, 255, 90)]
    options: dict[str, Any] = {"temperature": 0.9, "top_k": 12, "seed": 5}
    expected = [written(model, each, 30, n=2, **options) for each in tokens]
    texts = [[*each, *r.ids] for each, both in zip(tokens, expected, strict=True) for r in both]
    guess(right(*texts, wrong=4))
    model.engine.clear()
    found = model.generate(
        tokens, n=2, max_tokens=30, ignore_eos=True, return_result=True, **options, **{NAME: 6}
    )
    assert [[r.ids for r in both] for both in found] == [[r.ids for r in b] for b in expected]
    assert sum(result.drafted_tokens for both in found for result in both) > 0


def test_sessions_and_their_forks_go_on(model, guess):
    with model.session() as plain, model.session() as session:
        for function in (wrong, lambda tokens, most: right(plain.tokens, wrong=3)(tokens, most)):
            guess(function)
            written(plain, prompt(100), 60)
            written(session, prompt(100), 60, **{NAME: 8})
            assert session.tokens == plain.tokens
        with session.fork() as fork:
            first = written(fork, [5, 6], 20, **{NAME: 8})
            second = written(session, [5, 6], 20)
            assert first.ids == second.ids
        session.truncate(130)
        assert (
            written(session, [9], 10, **{NAME: 8}).ids
            == written(model, [*plain.tokens[:130], 9], 10).ids
        )


def test_streams_give_the_same_text_and_can_be_closed(model, guess):
    expected = written(model, prompt(20), 40)
    guess(right([*prompt(20), *expected.ids], wrong=5))
    options: dict[str, Any] = {"max_tokens": 40, "ignore_eos": True, NAME: 9}
    assert "".join(model.stream(prompt(20), **options)) == expected.text
    with model.session() as session:
        stream = session.stream(prompt(20), **options)
        next(stream)
        stream.close()
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.ids == expected.ids[: len(stream.result.ids)]
        assert session.tokens == [*prompt(20), *stream.result.ids]
        rest = 40 - len(stream.result.ids)
        whole = [*stream.result.ids, *written(model, session.tokens, rest).ids]
        assert whole == expected.ids


@pytest.mark.parametrize("pieces", range(1, 6))
def test_a_stream_that_is_closed_after_wrong_guesses_leaves_no_keys_of_them(model, guess, pieces):
    guess(wrong)
    with model.session() as session:
        stream = session.stream(prompt(20), max_tokens=40, ignore_eos=True, **{NAME: 9})
        for _ in range(pieces):
            next(stream)
        stream.close()
        found = written(session, [9, 8], 20)
        tokens = session.tokens[: -len(found.ids)]
        assert found.reused_tokens >= 20
        model.engine.clear()
        assert written(model, tokens, 20).ids == found.ids


def test_tasks_give_the_same_texts(model, guess):
    expected = [written(model, prompt(length), 25).ids for length in range(10, 22)]
    guess(right(*([*prompt(10 + i), *ids] for i, ids in enumerate(expected)), wrong=4))

    async def all_of_them() -> list[Any]:
        asked = (
            model.agenerate(
                prompt(length), max_tokens=25, ignore_eos=True, return_result=True, **{NAME: 5}
            )
            for length in range(10, 22)
        )
        return list(await asyncio.gather(*asked))

    assert [result.ids for result in asyncio.run(all_of_them())] == expected


@pytest.mark.parametrize("moment", range(8))
def test_ctrl_c_among_guessed_tokens_leaves_all_as_it_was(model, guess, monkeypatch, moment):
    expected = written(model, [*prompt(20), 4, 5], 20, frequency_penalty=0.5)
    guess(right([*prompt(20), 4, 5, *expected.ids], wrong=7))
    choose, left = Sampler.choose, [moment]

    def interrupted(self: Sampler, candidates: Any, index: int) -> int:
        token = choose(self, candidates, index)
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return token

    with model.session() as session:
        written(session, prompt(20), 0)
        with monkeypatch.context() as patch:
            patch.setattr(Sampler, "choose", interrupted)
            with pytest.raises(KeyboardInterrupt):
                written(session, [4, 5], 20, frequency_penalty=0.5, **{NAME: 9})
        assert session.tokens == prompt(20)
        again = written(session, [4, 5], 20, frequency_penalty=0.5, **{NAME: 9})
        assert again.ids == expected.ids


def test_ctrl_c_of_the_leader_changes_no_text_of_others(model, guess, monkeypatch):
    penalty = {"frequency_penalty": 0.5}
    expected = [written(model, prompt(length), 40, **penalty).ids for length in (20, 21)]
    guess(right(*([*prompt(20 + i), *ids] for i, ids in enumerate(expected)), wrong=5))
    sequences = [
        model.engine.sequence(
            prompt(length), Sampler(SamplingParams(**penalty)), max_tokens=40, most_guesses=6
        )
        for length in (20, 21)
    ]
    choose, calls = Sampler.choose, [0]

    def interrupted(self: Sampler, candidates: Any, index: int) -> int:
        token = choose(self, candidates, index)
        calls[0] += 1
        if calls[0] % 7 == 0:
            raise KeyboardInterrupt
        return token

    monkeypatch.setattr(Sampler, "choose", interrupted)
    interrupts = 0
    while not all(sequence.ended for sequence in sequences):
        try:
            model.engine.advance(*sequences)
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > 3
    assert [each.tokens[each.prompt_tokens :] for each in sequences] == expected


def test_a_cancelled_request_keeps_what_it_had(model, guess):
    expected = written(model, prompt(20), 400)
    guess(right([*prompt(20), *expected.ids]))
    with model.session() as session:
        stream = session.stream(prompt(20), max_tokens=400, ignore_eos=True, **{NAME: 3})
        next(stream)
        canceller = threading.Thread(target=session.cancel)
        canceller.start()
        canceller.join()
        assert "".join(stream) is not None
        result = stream.result
        assert result.finish_reason == "cancelled"
        assert result.ids == expected.ids[: len(result.ids)]
        assert session.tokens == [*prompt(20), *result.ids]


def test_a_text_with_a_form_is_not_guessed(model, guess):
    pytest.importorskip("llguidance", reason="the extra [structured]")
    guess(wrong)
    result = model.generate("a", regex="[a-c]{5}", max_tokens=20, return_result=True, **{NAME: 9})
    assert result.drafted_tokens == 0
    assert result.text == model.generate("a", regex="[a-c]{5}", max_tokens=20)


def test_a_small_model_guesses_only_if_asked(model):
    tokens = prompt(10) * 3
    assert written(model, tokens, 60, **{NAME: None}).drafted_tokens == 0
    assert written(model, tokens, 60, **{NAME: 9}).drafted_tokens > 0


@pytest.mark.parametrize("value", [-1, 65, 1.5, True, "8"])
def test_wrong_numbers_are_refused(model, value):
    with pytest.raises(InvalidParameterError, match=NAME):
        model.generate("a", **{NAME: value})


def test_results_say_how_many_guesses_were_right(model, guess):
    expected = written(model, prompt(20), 20)
    guess(right([*prompt(20), *expected.ids], wrong=3))
    found = written(model, prompt(20), 20, **{NAME: 4})
    assert 0 < found.accepted_tokens < found.drafted_tokens
    assert f"{found.accepted_tokens} of {found.drafted_tokens} were right" in found._repr_html_()
    assert "guesses" not in expected._repr_html_()
