"""What happens when tokens do not fit the context: an error, a shorter prompt, or a text that goes
on without the older half."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, GenerationResult, SamplingParams
from ryzanstein_llm.errors import ContextOverflowError, InvalidParameterError
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.sampling import Sampler

CONTEXT, BOS = 40, 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=1, context_length=CONTEXT) as model:
        assert model.start_id == BOS
        yield model


def written(source: Any, tokens: Any, new: int | None = 8, **options: Any) -> GenerationResult:
    result: GenerationResult = source.generate(
        tokens, max_tokens=new, ignore_eos=True, return_result=True, **options
    )
    return result


class TestError:
    @pytest.mark.parametrize("options", [{}, {"overflow": "error"}, {"overflow": None}])
    def test_is_the_default(self, model, options):
        with pytest.raises(ContextOverflowError) as caught:
            written(model, prompt(CONTEXT + 1), **options)
        assert (caught.value.needed, caught.value.context_length) == (CONTEXT + 1, CONTEXT)
        assert "the prompt is too long; shorten it" in str(caught.value)
        ended = written(model, prompt(30), None, **options)
        assert (len(ended.ids), ended.finish_reason, ended.dropped_tokens) == (10, "length", 0)

    @pytest.mark.parametrize("value", ["cut", True, 1, ["shift"]])
    def test_other_values_are_refused(self, model, value):
        with pytest.raises(InvalidParameterError, match="overflow"):
            written(model, prompt(3), overflow=value)


class TestTruncate:
    @pytest.mark.parametrize("first", [[], [BOS]])
    @pytest.mark.parametrize("new", [0, 1, 8, CONTEXT - 2])
    @pytest.mark.parametrize("length", [31, 32, 33, 40, 41, 500])
    def test_the_oldest_tokens_are_left_out_until_max_tokens_fit(self, model, first, new, length):
        tokens = [*first, *prompt(length - len(first))]
        room = CONTEXT - new
        kept = tokens
        if length > room:
            kept = [*first, *tokens[len(tokens) - (room - len(first)) :]]
        expected = written(model, kept, new)
        found = written(model, tokens, new, overflow="truncate")
        assert found.ids == expected.ids
        assert found.prompt_tokens == len(kept) == min(length, room)
        assert found.dropped_tokens == max(0, length - room)
        assert found.finish_reason == "length"
        assert len(found.ids) == new

    def test_without_max_tokens_one_new_token_has_room(self, model):
        found = written(model, [BOS, *prompt(99)], None, overflow="truncate")
        assert found.ids == written(model, [BOS, *prompt(99)[-38:]], 1).ids
        assert (found.prompt_tokens, len(found.ids), found.dropped_tokens) == (39, 1, 61)
        longer = written(model, prompt(20), None, overflow="truncate")
        assert (longer.dropped_tokens, len(longer.ids)) == (0, 20)

    def test_the_prompt_keeps_a_token(self, model):
        for first, new in (([], CONTEXT), ([BOS], CONTEXT - 1), ([], 10**6)):
            with pytest.raises(ContextOverflowError) as caught:
                written(model, [*first, *prompt(5)], new, overflow="truncate")
            assert caught.value.needed == new + len(first) + 1
            assert f"max_tokens={new} leaves no room for the prompt" in str(caught.value)
            most = CONTEXT - len(first) - 1
            assert f"lower max_tokens to {most} or less" in str(caught.value)
            assert "shorten" not in str(caught.value)
            written(model, [*first, *prompt(5)], most, overflow="truncate")

    def test_a_context_without_room_for_two_tokens_is_the_one_that_is_too_short(self, path):
        with BitNetModel(path, n_threads=1, context_length=1) as model:
            for overflow in ("truncate", "shift"):
                with pytest.raises(ContextOverflowError, match="with a longer context") as caught:
                    written(model, [BOS], 1, overflow=overflow)
                assert "max_tokens" not in str(caught.value)

    def test_texts(self, model):
        text = " ".join(["a king and a fox"] * 40)
        ids = model.tokenize(text)
        assert ids[0] == BOS
        found = written(model, text, 8, overflow="truncate")
        assert found.ids == written(model, [BOS, *ids[-31:]], 8).ids
        with pytest.raises(ContextOverflowError):
            written(model, text, 8)

    def test_where_the_budget_is_smaller_than_the_context(self, path):
        with BitNetModel(path, n_threads=1, context_length=700) as whole:
            block = whole.engine.store.layout.block_bytes
            expected = written(whole, prompt(600)[-248:], 8).ids
            shifted_once = written(whole, shifted(prompt(256), 0), 20).ids
        with BitNetModel(path, n_threads=1, context_length=700, prefix_cache_bytes=block) as model:
            assert model.engine.store.capacity == 256
            found = written(model, prompt(600), 8, overflow="truncate")
            assert found.ids == expected
            assert found.prompt_tokens == 248
            assert written(model, prompt(256), 20, overflow="shift").ids == shifted_once

    def test_sessions_drop_their_oldest_tokens(self, model):
        with model.session() as session:
            written(session, [BOS, *prompt(20)], 8)
            before = session.tokens
            with pytest.raises(ContextOverflowError, match="the session has 29") as e:
                written(session, [7] * 15, 8)
            assert "and the prompt adds 15; make room with truncate()" in str(e.value)
            assert session.tokens == before
            found = written(session, [7] * 15, 8, overflow="truncate")
            whole = [*before, *[7] * 15]
            kept = [BOS, *whole[len(whole) - 31 :]]
            assert session.tokens == [*kept, *found.ids]
            assert found.ids == written(model, kept, 8).ids
            assert found.dropped_tokens == len(whole) - 32


def shifted(tokens: list[int], kept: int) -> list[int]:
    """Without the older half, by the definition in API.md."""
    rest = tokens[kept:]
    return tokens[:kept] + rest[len(rest) // 2 :]


def by_logits(
    model: BitNetModel, tokens: list[int], new: int, sampling: SamplingParams, kept: int
) -> list[int]:
    """One forward pass of all tokens for each token, and a sampler that is new each time."""
    given, made = list(tokens), list[int]()
    begin = len(tokens)
    while len(made) < new:
        while len(given) >= CONTEXT:
            count = len(given)
            given = shifted(given, kept)
            begin = max(kept, begin - (count - len(given)))
        sampler = Sampler(sampling)
        sampler.query(given, begin)
        logits = model.forward(given, logits="last")[0]
        token = sampler.choose(Candidates(None, logits), len(made))
        made.append(token)
        given.append(token)
    return made


class TestShift:
    @pytest.mark.parametrize("first", [[], [BOS]])
    @pytest.mark.parametrize("length", [1, 10, 39, 40, 41, 150])
    @pytest.mark.parametrize(
        "sampling",
        [
            {},
            {"temperature": 0.9, "seed": 4},
            {"temperature": 0.7, "top_k": 9, "frequency_penalty": 0.8, "seed": 5},
            {"repetition_penalty": 1.3},
        ],
    )
    def test_each_token_is_chosen_as_after_the_kept_tokens_alone(
        self, model, first, length, sampling
    ):
        tokens = [*first, *prompt(length)]
        expected = by_logits(model, tokens, 100, SamplingParams(**sampling), len(first))
        found = written(model, tokens, 100, overflow="shift", **sampling)
        assert found.ids == expected
        assert found.finish_reason == "length"
        assert found.dropped_tokens > 60

    def test_it_changes_nothing_where_all_fits(self, model):
        expected = written(model, prompt(20), 20)
        found = written(model, prompt(20), 20, overflow="shift")
        assert (found.ids, found.dropped_tokens) == (expected.ids, 0)

    def test_a_text_without_max_tokens_goes_on_until_it_is_stopped(self, model):
        stream = model.stream(prompt(5), ignore_eos=True, overflow="shift")
        for _ in range(200):
            next(stream)
        stream.close()
        result = stream.result
        assert result.finish_reason == "cancelled"
        assert len(result.ids) >= 150
        assert result.ids == written(model, prompt(5), len(result.ids), overflow="shift").ids

    def test_text_logprobs_and_pieces_go_through(self, model):
        options: dict[str, Any] = {"overflow": "shift", "logprobs": 2}
        found = written(model, prompt(30), 90, **options)
        pieces = model.stream(prompt(30), max_tokens=90, ignore_eos=True, overflow="shift")
        assert found.text == "".join(pieces)
        assert [each.id for each in found.logprobs or ()] == found.ids
        assert len(found.timings.decode) == 89

    def test_min_tokens_and_stop_tokens_count_what_was_dropped(self, model):
        whole = written(model, prompt(30), 90, overflow="shift")
        stops = sorted(set(whole.ids))
        found = written(
            model, prompt(30), 90, overflow="shift", min_tokens=60, stop_token_ids=stops
        )
        assert len(found.ids) >= 60

    def test_guesses_change_nothing(self, model):
        for sampling in ({}, {"temperature": 0.8, "frequency_penalty": -0.5, "seed": 2}):
            plain = written(model, prompt(30), 200, overflow="shift", **sampling)
            quick = written(
                model, prompt(30), 200, overflow="shift", prompt_lookup_num_tokens=9, **sampling
            )
            assert quick.ids == plain.ids

    def test_sessions_keep_what_is_in_the_context(self, model):
        with model.session() as session:
            tokens = [BOS, *prompt(30)]
            found = written(session, tokens, 50, overflow="shift")
            assert len(session.tokens) <= CONTEXT
            assert session.tokens[0] == BOS
            kept = session.tokens
            assert [*tokens, *found.ids][-len(kept) + 1 :] == kept[1:]
            again = written(session, [9], 3, overflow="shift")
            start = [*kept, 9]
            while len(start) >= CONTEXT:
                start = shifted(start, 1)
            assert again.ids[:1] == written(model, start, 1).ids
            with session.fork() as fork:
                assert fork.tokens == session.tokens

    def test_batches_and_tasks(self, model):
        prompts = [prompt(length) for length in (3, 39, 90, 17)]
        expected = [written(model, each, 70, overflow="shift").ids for each in prompts]
        options: dict[str, Any] = {"max_tokens": 70, "ignore_eos": True, "overflow": "shift"}
        found = model.generate(prompts, return_result=True, **options)
        assert [result.ids for result in found] == expected
        again = asyncio.run(model.agenerate(prompts, return_result=True, **options))
        assert [result.ids for result in again] == expected
        cut = model.generate(
            prompts, return_result=True, max_tokens=8, ignore_eos=True, overflow="truncate"
        )
        assert [result.dropped_tokens for result in cut] == [0, 7, 58, 0]
        with pytest.raises(ContextOverflowError):
            model.generate(prompts, max_tokens=8)

    @pytest.mark.parametrize("after", [1, 15, 16, 17, 40])
    def test_ctrl_c_leaves_the_session_as_it_was(self, model, monkeypatch, after):
        choose, left = Sampler.choose, [after]

        def interrupted(self: Sampler, candidates: Candidates, index: int) -> int:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return choose(self, candidates, index)

        with model.session() as session:
            written(session, prompt(10), 2)
            before = session.tokens
            with monkeypatch.context() as patch:
                patch.setattr(Sampler, "choose", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    written(session, [5], 60, overflow="shift")
            assert session.tokens == before
            found = written(session, [5], 60, overflow="shift")
            assert found.ids == written(model, [*before, 5], 60, overflow="shift").ids

    def test_a_leader_that_is_interrupted_changes_no_text(self, model, monkeypatch):
        penalty = {"frequency_penalty": 0.5}
        expected = written(model, prompt(20), 100, overflow="shift", **penalty).ids
        sequence = model.engine.sequence(
            prompt(20), Sampler(SamplingParams(**penalty)), max_tokens=100, context=CONTEXT
        )
        choose, calls = Sampler.choose, [0]

        def interrupted(self: Sampler, candidates: Candidates, index: int) -> int:
            token = choose(self, candidates, index)
            calls[0] += 1
            if calls[0] % 5 == 0:
                raise KeyboardInterrupt
            return token

        monkeypatch.setattr(Sampler, "choose", interrupted)
        while not sequence.ended:
            with contextlib.suppress(KeyboardInterrupt):
                model.engine.advance(sequence)
        assert sequence.new_ids == expected

    def test_a_context_without_room_is_an_error(self, path):
        with BitNetModel(path, n_threads=1, context_length=2) as short:
            with pytest.raises(ContextOverflowError):
                written(short, [BOS, 5, 6], 3, overflow="shift")
            assert len(written(short, [5, 6], 9, overflow="shift").ids) == 9

    def test_a_form_cannot_be_shifted(self, model):
        pytest.importorskip("llguidance", reason="the extra [structured]")
        with pytest.raises(InvalidParameterError, match="overflow"):
            model.generate("a", regex="a+", overflow="shift")
        text = " ".join(["a king and a fox"] * 40)
        assert model.generate(text, regex="a{3}", max_tokens=9, overflow="truncate") == "aaa"


def test_scores_have_no_overflow(model):
    with pytest.raises(ContextOverflowError):
        model.score(prompt(CONTEXT + 1), [[5]])
    with pytest.raises(TypeError, match="overflow"):
        model.score(prompt(3), [[5]], overflow="truncate")


def test_results_say_what_was_dropped(model):
    found = written(model, prompt(50), 8, overflow="truncate")
    assert "18 tokens did not fit the context" in found._repr_html_()
