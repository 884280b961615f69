"""`generate` with a list of prompts: every text is what it would have been alone."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, GenerationResult, errors
from ryzanstein_llm.batch import batch as batch_module
from ryzanstein_llm.batch.batch import Batch
from ryzanstein_llm.batch.workload import Workload
from ryzanstein_llm.engine.engine import Engine
from ryzanstein_llm.generation import Generation
from ryzanstein_llm.sampling import Sampler

TEXTS = ["Once upon a time", "", "The king", "x", "Once upon a time", "A fox. " * 30, "The king's"]
LENGTHS = [1, 5, 600, 60, 255, 256, 257, 300]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)


@pytest.fixture
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def alone(path: Path) -> Callable[..., Any]:
    """What a model that has seen nothing else gives."""

    def generate(prompt: Any, **options: Any) -> Any:
        with BitNetModel(path, n_threads=1) as fresh:
            return fresh.generate(prompt, **options)

    return generate


def counted(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Will hold the rows of each pass."""
    passes: list[list[int]] = []
    compute = model.engine._compute

    def counting(shares: Any) -> Any:
        passes.append([share.rows for share in shares])
        return compute(shares)

    monkeypatch.setattr(model.engine, "_compute", counting)
    return passes


class TestTexts:
    @pytest.mark.parametrize(
        "options",
        [{}, {"temperature": 0.9, "seed": 3}, {"repetition_penalty": 1.3, "stop": ["a"]}],
        ids=["greedy", "sampled", "with a stop string"],
    )
    def test_each_is_what_it_would_be_alone(self, model, alone, options) -> None:
        options = {"max_tokens": 20, **options}
        expected = [alone(text, **options) for text in TEXTS]
        assert model.generate(TEXTS, **options) == expected
        assert model.generate(tuple(TEXTS), **options) == expected

    def test_prompts_of_ids(self, model, alone) -> None:
        prompts = [prompt(length) for length in LENGTHS]
        options = {"max_tokens": 8, "ignore_eos": True, "return_result": True}
        expected = [alone(tokens, **options).ids for tokens in prompts]
        for given in (prompts, [np.array(tokens) for tokens in prompts]):
            assert [each.ids for each in model.generate(given, **options)] == expected

    def test_results_have_what_results_have(self, model) -> None:
        first, second = model.generate(["The king", [5, 6]], max_tokens=3, return_result=True)
        assert isinstance(first, GenerationResult)
        assert (second.prompt_tokens, len(second.ids), second.finish_reason) == (2, 3, "length")
        assert second.timings.prefill > 0

    @pytest.mark.parametrize("single", [[], (), [5, 6, 7], np.array([5, 6]), range(3, 9), "text"])
    def test_an_empty_list_and_one_of_ints_are_one_prompt(self, model, alone, single) -> None:
        assert model.generate(single, max_tokens=4) == alone(single, max_tokens=4)

    def test_one_prompt_in_a_list_gives_a_list(self, model, alone) -> None:
        assert model.generate(["The king"], max_tokens=4) == [alone("The king", max_tokens=4)]

    def test_a_session_takes_one_prompt_only(self, model) -> None:
        with model.session() as session, pytest.raises(errors.InvalidParameterError):
            session.generate(["The king", "A fox"])


class TestPasses:
    def test_all_share_each_pass_and_no_thread_is_started(self, model, monkeypatch) -> None:
        threads = []
        passes = counted(model, monkeypatch)
        hidden_states = model.graph.hidden_states

        def counting(*arguments: Any) -> Any:
            threads.append(threading.active_count())
            return hidden_states(*arguments)

        monkeypatch.setattr(model.graph, "hidden_states", counting)
        before = threading.active_count()
        model.generate([prompt(5 + i) for i in range(16)], max_tokens=40, ignore_eos=True)
        assert len(passes) < 40 + 16
        assert passes.count([1] * 16) > 30
        assert set(threads) == {before}

    def test_a_large_batch_goes_through_in_parts(self, path, alone, monkeypatch) -> None:
        """When one has ended, the next one begins."""
        prompts = [prompt(2 + i % 9) for i in range(40)]
        expected = [alone(tokens, max_tokens=3) for tokens in prompts]
        with BitNetModel(path, n_threads=1) as model:
            passes = counted(model, monkeypatch)
            monkeypatch.setattr(Workload.__init__, "__defaults__", (8,))
            assert model.generate(prompts, max_tokens=3) == expected
            assert max(map(len, passes)) == 8

    @pytest.mark.parametrize("blocks", [3, 4, 7])
    def test_a_small_budget_is_kept(self, path, alone, monkeypatch, blocks) -> None:
        prompts = [prompt(length) for length in (100, 300, 400, 500, 250, 260, 30, 511)]
        expected = [alone(tokens, max_tokens=40) for tokens in prompts]
        with BitNetModel(path) as model:
            budget = blocks * model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, n_threads=1, prefix_cache_bytes=budget) as model:
            most = [0]

            def progress(*_: Any) -> None:
                most.append(model.engine.store.pool.nbytes)

            assert model.generate(prompts, max_tokens=40, progress=progress) == expected
            assert max(most) <= budget

    def test_a_common_beginning_is_computed_once(self, model, monkeypatch) -> None:
        common = prompt(300)
        passes = counted(model, monkeypatch)
        model.generate([[*common, 5 + i] for i in range(10)], max_tokens=1)
        assert sum(map(sum, passes)) == 301 + 9

    @pytest.mark.parametrize("given", ["Once", ["Once", "The king"]], ids=["one", "batch"])
    def test_few_frames_stand_between_generate_and_the_pass(
        self, model, monkeypatch, given
    ) -> None:
        compute, between = model.engine._compute, []

        def counting(shares: Any) -> Any:
            frame, count = sys._getframe(1), 0
            while frame.f_code.co_name != "generate":
                frame, count = frame.f_back, count + 1
            between.append(count)
            return compute(shares)

        monkeypatch.setattr(model.engine, "_compute", counting)
        model.generate(given, max_tokens=2)
        assert between
        assert max(between) <= 8


WRONG: list[tuple[Any, type[Exception], str]] = [
    (5, errors.InvalidParameterError, r"prompt\[2\] must be str or token ids, not 5"),
    (None, errors.InvalidParameterError, r"prompt\[2\] must be str or token ids, not None"),
    ([3, "x"], errors.InvalidParameterError, r"prompt\[2\] must be one .*\[1\] is a text: 'x'"),
    ([3, 301], errors.InvalidParameterError, r"prompt\[2\]\[1\] must be in 0..300, not 301"),
    ("\ud800", errors.InvalidParameterError, r"prompt\[2\]: .*Unicode"),
    ([5] * 1281, errors.ContextOverflowError, r"prompt\[2\]: 1281 tokens do not fit"),
]


class TestErrors:
    @pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
    def test_a_wrong_prompt_is_found_before_any_work(
        self, model, monkeypatch, wrong, kind, message
    ) -> None:
        monkeypatch.setattr(model.engine, "_compute", None)
        with pytest.raises(kind, match=message) as caught:
            model.generate(["The king", [5], wrong, "A fox"])
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy)) == (kind, str(caught.value))
        assert vars(copy) == vars(caught.value)

    @pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
    def test_or_its_error_stands_in_its_place(self, model, alone, wrong, kind, message) -> None:
        found = model.generate(["The king", wrong], max_tokens=5, errors="return")
        assert found[0] == alone("The king", max_tokens=5)
        assert isinstance(found[1], kind)
        assert "prompt[1]" in str(found[1])

    def test_a_prompt_that_the_budget_has_no_room_for(self, path) -> None:
        with BitNetModel(path) as model:
            block = model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, prefix_cache_bytes=2 * block) as model:
            with pytest.raises(errors.CacheBudgetError, match=r"^prompt\[1\]: ") as caught:
                model.generate([[5], prompt(513)], max_tokens=1)
            assert (caught.value.needed, caught.value.budget) == (3 * block, 2 * block)

    @pytest.mark.parametrize("how", ["raise", "return"])
    def test_what_fails_while_it_is_computed(self, model, alone, monkeypatch, how) -> None:
        choose = Sampler.choose

        def failing(self: Sampler, candidates: Any, index: int) -> int:
            if index == 2 and 77 in self._seen.ids:
                raise errors.FormatError("the logits are not finite")
            return choose(self, candidates, index)

        options = {"max_tokens": 6, "repetition_penalty": 1.1, "ignore_eos": True}
        expected = alone([5, 6], **options)
        monkeypatch.setattr(Sampler, "choose", failing)
        prompts = [[5, 6], [77], [5, 6]]
        if how == "raise":
            with pytest.raises(errors.FormatError, match=r"prompt\[1\]: the logits"):
                model.generate(prompts, **options)
        else:
            found = model.generate(prompts, errors="return", **options)
            assert (found[0], found[2]) == (expected, expected)
            assert str(found[1]) == "prompt[1]: the logits are not finite"
        assert not model.engine._waiting

    @pytest.mark.parametrize("how", ["raise", "return"])
    def test_a_wrong_option_is_an_error_of_the_call(self, model, how) -> None:
        with pytest.raises(errors.InvalidParameterError, match=r"^temperature must be"):
            model.generate(["a", "b"], temperature=-1, errors=how)

    @pytest.mark.parametrize("single", ["text", [], [5, 6]])
    def test_errors_is_for_several_prompts(self, model, single) -> None:
        """So an empty list of prompts does not go unnoticed where it can be told."""
        with pytest.raises(errors.InvalidParameterError, match=r"^errors is for a list of prompts"):
            model.generate(single, errors="return")

    def test_a_closed_model(self, path) -> None:
        model = BitNetModel(path)
        model.close()
        with pytest.raises(errors.ClosedError):
            model.generate(["a", "b"])


WARM: dict[str, Any] = {"temperature": 1.0, "max_tokens": 12, "ignore_eos": True}


class TestSamples:
    def test_seeds_count_up_from_seed(self, model, alone) -> None:
        expected = [alone("The king", seed=seed, **WARM) for seed in (7, 8, 9)]
        assert len(set(expected)) == 3
        assert model.generate("The king", n=3, seed=7, **WARM) == expected
        found = model.generate(["The king", "A fox"], n=3, seed=7, **WARM)
        assert found[0] == expected
        assert found[1][2] == alone("A fox", seed=9, **WARM)

    def test_the_seed_after_the_last_is_0(self, model, alone) -> None:
        found = model.generate("The king", n=2, seed=2**64 - 1, **WARM)
        assert found[1] == alone("The king", seed=0, **WARM)

    def test_without_a_seed_they_differ(self, model) -> None:
        assert len(set(model.generate("The king", n=5, **WARM))) > 1

    def test_greedy_ones_are_equal(self, model, alone) -> None:
        expected = alone("The king", max_tokens=5)
        assert model.generate("The king", n=3, max_tokens=5) == [expected] * 3

    def test_they_share_the_prompt(self, model, monkeypatch) -> None:
        passes = counted(model, monkeypatch)
        found = model.generate(prompt(500), n=8, max_tokens=1, return_result=True)
        assert sum(map(sum, passes)) == 500 + 7
        assert [result.prompt_tokens for result in found] == [500] * 8

    def test_one_is_a_list_too(self, model) -> None:
        assert isinstance(model.generate("The king", n=1, max_tokens=2), list)


class TestProgress:
    def test_is_told_of_each_continuation(self, model) -> None:
        told: list[tuple[int, int, str]] = []
        model.generate(TEXTS, n=2, max_tokens=3, progress=lambda *each: told.append(each))
        assert told == [(i + 1, 2 * len(TEXTS), "generating") for i in range(2 * len(TEXTS))]

    def test_may_use_the_model(self, model, alone) -> None:
        found: list[str] = []
        model.generate(
            ["The king", "A fox"],
            max_tokens=3,
            progress=lambda *_: found.append(model.generate("x", max_tokens=2)),
        )
        assert found == [alone("x", max_tokens=2)] * 2

    def test_may_end_it_all(self, model, alone) -> None:
        def stop(*_: Any) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            model.generate(TEXTS, max_tokens=20, progress=stop)
        assert not model.engine._waiting
        assert model.generate(TEXTS[0], max_tokens=5) == alone(TEXTS[0], max_tokens=5)


MOMENTS = [
    *((Engine, name) for name in ("advance", "_compute", "leave")),
    (Workload, "wait"),
    *((Generation, name) for name in ("begin", "end")),
    (Batch, "take"),
]


@pytest.mark.parametrize("which", [1, 4])
@pytest.mark.parametrize(("owner", "name"), MOMENTS)
def test_ctrl_c_ends_all_and_leaves_everything_usable(
    model, alone, monkeypatch, owner, name, which
) -> None:
    """At the end of a call of this method, the first or the fourth time."""
    method, count = getattr(owner, name), [0]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        value = method(*arguments, **options)
        count[0] += 1
        if count[0] == which:
            raise KeyboardInterrupt
        return value

    prompts = [prompt(length) for length in LENGTHS]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        patch.setattr(Workload.__init__, "__defaults__", (3,))
        with pytest.raises(KeyboardInterrupt):
            model.generate(prompts, max_tokens=5)
    assert not model.engine._waiting
    tables = model.engine.store.pool._tables.values()
    model.engine.clear()
    assert [table for table in tables if table() is not None and table().blocks] == []
    assert model.generate(prompts, max_tokens=5) == [alone(p, max_tokens=5) for p in prompts]


def test_several_threads_may_each_have_a_batch(model, alone) -> None:
    prompts = [prompt(length) for length in LENGTHS]
    expected = [alone(tokens, max_tokens=20) for tokens in prompts]
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.generate(prompts, max_tokens=20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert found == [expected] * 4


def test_what_counts_as_a_batch() -> None:
    several = [["a"], ["a", 5], [[1]], [(1, 2), "a"], [np.array([1])], [range(3)], [[]]]
    single = [
        [],
        [1],
        "abc",
        (1, 2),
        np.array([[1, 2]]),
        [np.int64(3)],
        range(5),
        b"abc",
        [b"x"],
        {"a": 1},
    ]
    assert all(map(batch_module.is_batch, several))
    assert not any(map(batch_module.is_batch, single))


def test_an_iterator_is_one_prompt_of_ids(model: BitNetModel) -> None:
    """As a list of them would be; it is never a batch."""
    ids = model.tokenize("The king")
    for given in (iter(ids), (each for each in ids), tuple(ids), range(5, 8)):
        expected = ids if not isinstance(given, range) else list(given)
        assert model.generate(given, max_tokens=3) == model.generate(expected, max_tokens=3)  # type: ignore[call-overload]
    empty = model.generate([], max_tokens=3)
    assert model.generate(iter([]), max_tokens=3) == empty  # type: ignore[call-overload]
    assert model.generate((each for each in []), max_tokens=3) == empty  # type: ignore[call-overload]
    assert model.generate(iter([]), n=2, max_tokens=3) == [empty, empty]  # type: ignore[call-overload]
    with pytest.raises(errors.InvalidParameterError, match="one text or token ids, but prompt"):
        model.generate(iter(["The king", "The fox"]), max_tokens=3)  # type: ignore[call-overload]
