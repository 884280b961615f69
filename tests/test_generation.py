"""`generate`, `stream` and sessions: what comes out, when it ends, what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_model import DEMO
from small_model import prompt, write_small_model

import ryzanstein_llm
from ryzanstein_llm import BitNetModel, SamplingParams, errors
from ryzanstein_llm.text.gguf_tokenizer import build_tokenizer

TALE = "Once upon a time"


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as model:
        yield model


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    """A model without a tokenizer."""
    directory = write_small_model(tmp_path_factory.mktemp("wordless") / "model")
    with BitNetModel(directory) as model:
        yield model


def demo_copy(directory: Path, **generation_config: object) -> Path:
    shutil.copytree(DEMO, directory)
    path = directory / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **generation_config}))
    return directory


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    """A random model whose tokens begin with their space, as those of SentencePiece do."""
    directory = write_small_model(tmp_path_factory.mktemp("spaced") / "model")
    words = ["▁", *"abcdefghi"]
    words += [f"▁{word}" for word in ["a", "b", "c", "ab", "abc", *words[2:]]]
    words = list(dict.fromkeys(words))
    tokens = ["<s>", "</s>", *words, *(f"▁{index}" for index in range(299 - len(words)))]
    raw = build_tokenizer(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(rank) for rank in range(301)],
            "tokenizer.ggml.token_type": [3, 3] + [1] * 299,
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
        },
        "spaced",
    )
    raw.save(str(directory / "tokenizer.json"))
    with BitNetModel(directory) as model:
        yield model


class TestText:
    def test_the_continuation_only(self, model):
        text = model.generate(TALE, max_tokens=20)
        assert text.startswith(" there was")
        assert TALE not in text

    def test_greedy_is_the_default_and_repeats_itself(self, model):
        first = model.generate(TALE, max_tokens=30)
        assert first == model.generate(TALE, max_tokens=30)
        assert first == model.generate(TALE, max_tokens=30, temperature=0.0, seed=8)

    def test_ids_and_text_are_the_same_prompt(self, model):
        ids = model.tokenize(TALE)
        assert model.generate(ids, max_tokens=20) == model.generate(TALE, max_tokens=20)

    @pytest.mark.parametrize("words", ["a", "abc", "b a", "c  ab"])
    def test_the_first_space_of_a_continuation_belongs_to_it(self, spaced, words):
        result = spaced.generate(words, max_tokens=6, ignore_eos=True, return_result=True)
        whole = spaced.detokenize(spaced.tokenize(words) + result.ids)
        assert " " in result.text
        assert words + result.text == whole
        assert "".join(spaced.stream(words, max_tokens=6, ignore_eos=True)) == result.text
        with spaced.session() as session:
            first = session.generate(words, max_tokens=3, ignore_eos=True)
            second = session.generate([], max_tokens=3, ignore_eos=True)
            assert words + first + second == whole

    def test_a_text_from_nothing_has_no_first_space(self, spaced):
        result = spaced.generate("", max_tokens=6, ignore_eos=True, return_result=True)
        assert result.text == spaced.detokenize(result.ids)
        assert not result.text.startswith(" ")

    def test_an_empty_prompt_is_beginning_of_text_alone(self, model):
        result = model.generate("", max_tokens=1, return_result=True)
        assert result.prompt_tokens == 1
        assert result.ids == model.generate([0], max_tokens=1, return_result=True).ids
        assert result.ids == model.generate([], max_tokens=1, return_result=True).ids

    def test_a_text_without_tokens_is_an_empty_prompt(self, tmp_path, model):
        directory = demo_copy(tmp_path / "model")
        path = directory / "tokenizer.json"
        strip = {"type": "Strip", "strip_left": True, "strip_right": True}
        changed = {"normalizer": strip, "post_processor": None}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        (directory / "tokenizer_config.json").write_text("{}")
        with BitNetModel(directory) as stripping:
            assert stripping.tokenize("  ") == []
            assert stripping.generate("  ", max_tokens=9) == model.generate("", max_tokens=9)

    def test_each_token_is_the_likeliest_after_all_before(self, model):
        ids = model.tokenize(TALE)
        for token in model.generate(TALE, max_tokens=12, return_result=True).ids:
            assert token == model.forward(ids, logits="last")[0].argmax()
            ids.append(token)

    def test_result_tells_what_happened(self, model):
        result = model.generate(TALE, max_tokens=7, return_result=True)
        assert result.text == model.detokenize(result.ids) == model.generate(TALE, max_tokens=7)
        assert result.finish_reason == "length"
        assert result.usage == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        assert result.timings.prefill > 0
        assert len(result.timings.decode) == 6
        assert result.timings.tokens_per_second > 0

    def test_no_tokens_wanted_none_made(self, model):
        assert model.generate(TALE, max_tokens=0) == ""


class TestSampling:
    def test_a_seed_fixes_the_text(self, model):
        def tale(seed):
            return model.generate(TALE, max_tokens=30, temperature=1.0, seed=seed)

        assert tale(1) == tale(1)
        assert tale(1) != tale(2)

    def test_without_a_seed_texts_differ(self, model):
        texts = {model.generate(TALE, max_tokens=20, temperature=1.0) for _ in range(5)}
        assert len(texts) > 1

    @pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
    def test_the_narrowest_choice_is_greedy(self, model, narrow):
        greedy = model.generate(TALE, max_tokens=20)
        assert model.generate(TALE, max_tokens=20, temperature=1.0, seed=4, **narrow) == greedy

    def test_defaults_of_the_checkpoint(self, model):
        params = SamplingParams.from_checkpoint(model, seed=3)
        stored = {"temperature": 0.7, "min_p": 0.1, "repetition_penalty": 1.1}
        assert params == SamplingParams(**stored, seed=3)
        assert model.generate(TALE, max_tokens=9, sampling=params) == model.generate(
            TALE, max_tokens=9, **stored, seed=3
        )

    def test_a_checkpoint_that_does_not_sample_is_greedy(self, tmp_path):
        with BitNetModel(demo_copy(tmp_path / "model", do_sample=False)) as model:
            assert SamplingParams.from_checkpoint(model).temperature == 0

    def test_a_checkpoint_with_impossible_defaults(self, tmp_path):
        with (
            BitNetModel(demo_copy(tmp_path / "model", top_p=7)) as model,
            pytest.raises(errors.FormatError, match=r"generation_config.*top_p.*7"),
        ):
            SamplingParams.from_checkpoint(model)


class TestEnds:
    def test_at_a_stop_string_which_is_not_part_of_the_text(self, model):
        whole = model.generate(TALE, max_tokens=40)
        result = model.generate(TALE, max_tokens=40, stop=["who"], return_result=True)
        assert result.text == whole[: whole.index("who")]
        assert result.finish_reason == "stop"

    def test_at_every_eos_id_the_files_name(self, tmp_path, model):
        fourth = model.generate(TALE, max_tokens=4, return_result=True).ids[3]
        with BitNetModel(demo_copy(tmp_path / "model", eos_token_id=[1, fourth])) as ending:
            assert ending.eos_ids == (1, fourth)
            result = ending.generate(TALE, max_tokens=40, return_result=True)
            assert result.finish_reason == "eos"
            assert len(result.ids) < 4
            assert fourth not in result.ids
            longer = ending.generate(TALE, max_tokens=40, ignore_eos=True, return_result=True)
            assert len(longer.ids) == 40
            assert fourth in longer.ids

    def test_at_the_end_of_the_context(self):
        with BitNetModel(context_length=20) as model:
            result = model.generate(TALE, return_result=True)
            assert result.finish_reason == "length"
            assert result.usage["total_tokens"] == 20

    def test_a_prompt_as_long_as_the_context_has_no_continuation(self):
        with BitNetModel(context_length=5) as model:
            assert model.generate(TALE) == ""

    def test_a_longer_prompt_is_refused_with_both_numbers(self):
        with (
            BitNetModel(context_length=4) as model,
            pytest.raises(errors.ContextOverflowError, match=r"5 tokens.*context of 4") as caught,
        ):
            model.generate(TALE)
        assert (caught.value.needed, caught.value.context_length) == (5, 4)


class TestStream:
    @pytest.mark.parametrize(
        "options", [{}, {"stop": [" a ", "king"]}, {"temperature": 1.5, "seed": 6}]
    )
    def test_pieces_together_are_the_text(self, model, options):
        stream = model.stream(TALE, max_tokens=60, **options)
        pieces = list(stream)
        assert "".join(pieces) == model.generate(TALE, max_tokens=60, **options)
        assert all(pieces)
        assert stream.result.text == "".join(pieces)

    def test_characters_are_never_cut(self, model):
        # hot sampling of a byte-level vocabulary gives plenty of broken UTF-8
        for seed in range(5):
            options = {"max_tokens": 80, "temperature": 30.0, "seed": seed, "ignore_eos": True}
            pieces = list(model.stream(TALE, **options))
            assert "".join(pieces) == model.generate(TALE, **options)

    def test_closing_ends_it_and_leaves_the_session_usable(self, model):
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=100)
            next(stream)
            stream.close()
            assert session.generate(" and", max_tokens=3)

    def test_a_dropped_stream_ends_at_once(self, model):
        with model.session() as session:
            for _ in session.stream(TALE, max_tokens=100):
                break
            assert session.generate(" and", max_tokens=3)

    def test_closing_is_cancelling(self, model):
        stream = model.stream(TALE, max_tokens=100)
        next(stream)
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.result
        stream.close()
        assert stream.result.finish_reason == "cancelled"

    def test_leaving_a_with_block_closes_it(self, model):
        with model.session() as session:
            with session.stream(TALE, max_tokens=100) as stream:
                next(stream)
            assert stream.result.finish_reason == "cancelled"
            assert session.generate(" and", max_tokens=3)

    def test_arguments_are_checked_before_the_first_piece(self, model):
        with pytest.raises(errors.InvalidParameterError):
            model.stream(TALE, max_tokens=-1)


class TestSession:
    def test_goes_on_where_it_was(self, model):
        with model.session() as session:
            first = session.generate(TALE, max_tokens=10)
            second = session.generate(" Then", max_tokens=10)
            ids = model.tokenize(TALE) + model.tokenize(first, add_special_tokens=False)
            assert session.tokens[: len(ids)] == ids
            assert session.tokens.count(0) == 1  # beginning-of-text once only
            whole = session.tokens[:-10]
            assert model.generate(whole, max_tokens=10) == second

    def test_truncation_rewinds(self, model):
        with model.session() as session:
            session.generate(TALE, max_tokens=30)
            kept = session.tokens[:12]
            session.truncate(12)
            assert session.tokens == kept
            assert session.generate([], max_tokens=8) == model.generate(kept, max_tokens=8)
            with pytest.raises(errors.InvalidParameterError, match=r"n must be in 0\.\.20, not 21"):
                session.truncate(21)

    def test_a_failed_request_leaves_the_session_as_it_was(self, model, monkeypatch):
        with model.session() as session:
            session.generate(TALE, max_tokens=5)
            tokens = session.tokens

            def fail(*_):
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(model.engine, "_compute", fail)
                with pytest.raises(KeyboardInterrupt):
                    session.generate(" and then", max_tokens=5)
            assert session.tokens == tokens
            expected = model.generate(
                [*tokens, *model.tokenize(" so", add_special_tokens=False)], max_tokens=4
            )
            assert session.generate(" so", max_tokens=4) == expected

    def test_a_second_thread_is_told(self, model):
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=20)
            next(stream)
            # a stream of this very thread may be the reason, and can then be closed
            with pytest.raises(errors.SessionBusyError, match="stream that has not ended"):
                session.generate(TALE, max_tokens=1)
            stream.close()

    def test_closing_ends_a_stream_that_has_not_ended(self, model):
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=20)
            next(stream)
            session.stream(TALE, max_tokens=20)  # never begun
        assert stream.result.finish_reason == "cancelled"
        with pytest.raises(errors.ClosedError):
            session.generate(TALE, max_tokens=1)

    def test_closing_does_not_hide_an_error_between_two_pieces(self, model):
        def show(session):
            with session:
                stream = session.stream(TALE, max_tokens=20)
                for _ in stream:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            show(model.session())

    def test_neither_session_nor_stream_is_closed_under_a_computing_thread(
        self, model, monkeypatch
    ):
        computing, may_end = threading.Event(), threading.Event()
        compute = model.engine._compute

        def slowly(*arguments):
            computing.set()
            assert may_end.wait(60)
            return compute(*arguments)

        monkeypatch.setattr(model.engine, "_compute", slowly)
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=3)
            thread = threading.Thread(target=lambda: list(stream))
            thread.start()
            assert computing.wait(60)
            try:
                for close in (session.close, stream.close):
                    with pytest.raises(errors.SessionBusyError):
                        close()
            finally:
                may_end.set()
                thread.join()
            assert stream.result.finish_reason == "length"

    def test_cancel_from_another_thread_during_a_long_prompt(self, wordless):
        with wordless.session() as session:
            session.generate(prompt(40), max_tokens=1, return_result=True)
            tokens = session.tokens
            results = []

            def work():
                results.append(session.generate(prompt(1200), max_tokens=20, return_result=True))

            thread = threading.Thread(target=work)
            thread.start()
            while len(session.tokens) == len(tokens):
                time.sleep(0.0001)
            session.cancel()
            thread.join(30)
            assert results[0].finish_reason in ("cancelled", "length")  # the machine may be quick
            session.truncate(len(tokens))
            assert (
                session.generate([], max_tokens=5, return_result=True).ids
                == wordless.generate(tokens, max_tokens=5, return_result=True).ids
            )

    def test_cancel_between_tokens(self, model):
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=100)
            for _ in range(5):
                next(stream)
            session.cancel()
            rest = list(stream)
            assert stream.result.finish_reason == "cancelled"
            assert len(rest) <= 1  # what was held back for want of a whole character
            assert session.generate(" and", max_tokens=3)

    def test_closed(self, model):
        session = model.session()
        session.close()
        session.close()
        with pytest.raises(errors.ClosedError):
            session.generate(TALE)

    def test_memory_follows_use(self, wordless):
        with wordless.session() as session:
            assert session.nbytes == 0
            session.generate(prompt(10), max_tokens=1, return_result=True)
            one = session.nbytes
            session.generate(prompt(300), max_tokens=1, return_result=True)
            assert session.nbytes == 2 * one
            session.truncate(5)
            assert session.nbytes == one


class TestCache:
    def test_a_cache_in_use_is_not_touched(self, wordless, monkeypatch):
        """Its blocks would go while kernels have their addresses."""
        cache, compute, seen = wordless.new_cache(), wordless.engine._extend, []

        def interfere(*arguments):
            for call in (lambda: cache.truncate(0), lambda: wordless.forward([2], cache)):
                with pytest.raises(errors.SessionBusyError):
                    call()
                seen.append(call)
            return compute(*arguments)

        monkeypatch.setattr(wordless.engine, "_extend", interfere)
        wordless.forward(prompt(6), cache, "last")
        assert len(seen) == 2
        assert cache.length == 6


class TestModel:
    def test_a_tokenizer_with_more_ids_than_the_model(self, tmp_path):
        directory = write_small_model(tmp_path / "model")
        shutil.copy(DEMO / "tokenizer.json", directory)
        with BitNetModel(directory) as model:
            for call in (model.generate, model.perplexity, model.tokenize):
                with pytest.raises(errors.FormatError, match=r"tokenizer\.json gives id \d+.*301"):
                    call("Once upon a time there was a queen")

    def test_closing_frees_the_caches(self):
        model = BitNetModel()
        stream = model.stream(TALE, max_tokens=100)
        next(stream)
        model.close()
        stream.close()
        assert model.engine.store.pool.nbytes == 0

    def test_reuse_of_a_prefix_is_seen_and_changes_nothing(self, model):
        long = TALE + " there lived in a wood a poor man who"
        with BitNetModel() as fresh:
            expected = fresh.generate(long, max_tokens=20)
        model.generate(TALE, max_tokens=20)
        result = model.generate(long, max_tokens=20, return_result=True)
        assert result.reused_tokens >= 4
        assert result.text == expected

    def test_closed_model_refuses(self):
        model = BitNetModel()
        session = model.session()
        model.close()
        model.close()
        for call in (lambda: model.generate(TALE), lambda: session.generate(TALE), model.session):
            with pytest.raises(errors.ClosedError):
                call()

    @pytest.mark.parametrize("attribute", ["session", "new_cache"])
    def test_pickling_says_what_to_do_instead(self, model, attribute):
        for thing in (model, getattr(model, attribute)()):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(thing)

    def test_facts(self, model):
        assert (model.vocab_size, model.context_length, model.eos_ids) == (4096, 512, (1,))
        assert model.config.n_layers == 6
        assert model.info()["parameters"] == 5_776_640

    def test_text_without_a_tokenizer(self, wordless):
        assert (
            len(wordless.generate([3, 4], max_tokens=5, ignore_eos=True, return_result=True).ids)
            == 5
        )
        for call in (
            lambda: wordless.generate([3, 4], max_tokens=5),
            lambda: wordless.generate("text", max_tokens=5, return_result=True),
            lambda: wordless.stream([3, 4]),
            lambda: wordless.tokenize("text"),
            lambda: wordless.detokenize([3]),
            lambda: wordless.generate([3], stop="x", return_result=True),
        ):
            with pytest.raises(errors.TokenizerMissingError, match=r"tokenizer\.json"):
                call()

    def test_empty_prompt_without_any_special_token(self, tmp_path):
        directory = write_small_model(tmp_path / "model")
        config = json.loads((directory / "config.json").read_text())
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            config.pop(key, None)
        (directory / "config.json").write_text(json.dumps(config))
        (directory / "generation_config.json").unlink(missing_ok=True)
        with (
            BitNetModel(directory) as model,
            pytest.raises(errors.EmptyPromptError, match="BOS"),
        ):
            model.generate([], return_result=True)

    def test_threads_are_read_when_the_model_is_made(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert ryzanstein_llm.num_threads() == 3
        with BitNetModel() as model:
            assert model.n_threads == 3
        with BitNetModel(n_threads=1) as model:
            assert model.n_threads == 1
