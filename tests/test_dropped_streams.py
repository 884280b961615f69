"""Streams that are dropped before their end, without `close()`."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, TextIterator
from ryzanstein_llm.interfaces.kv_layout import BLOCK_POSITIONS


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=1) as model:
        yield model


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """Everything has to work without it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def begun(source: Any, tokens: list[int]) -> TextIterator:
    """A stream after its first piece."""
    stream: TextIterator = source.stream(tokens, ignore_eos=True)
    next(stream)
    return stream


def dropped(source: Any, tokens: list[int]) -> None:
    begun(source, tokens)


def in_a_cycle(stream: TextIterator) -> None:
    cycle: list[Any] = [stream]
    cycle.append(cycle)


@pytest.mark.parametrize("how", ["plainly", "by the collector"])
def test_ctrl_c_that_comes_while_a_stream_is_deleted_is_not_lost(
    model: BitNetModel, how: str
) -> None:
    """Python lets a signal interrupt its own functions only, and swallows what a finaliser raises.
    So none may run: the signal is sent in the first one that does, and after that at the latest."""
    holder = [begun(model, prompt(9))]
    if how == "by the collector":
        in_a_cycle(holder[0])
    functions: list[str] = []

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            sys.setprofile(None)
            functions.append(frame.f_code.co_name)
            signal.raise_signal(signal.SIGINT)

    def delete() -> None:
        try:
            sys.setprofile(interrupt)
            holder.clear()
            gc.collect()
        finally:
            sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        delete()
    assert functions == []


class TestOfASession:
    def test_it_is_not_busy_and_keeps_what_was_generated(self, model: BitNetModel) -> None:
        expected = model.generate(prompt(9), max_tokens=40, ignore_eos=True, return_result=True).ids
        with model.session() as session:
            dropped(session, prompt(9))
            assert "idle" in repr(session)
            assert session.tokens[:9] == prompt(9)
            new = session.tokens[9:]
            assert new
            assert new == expected[: len(new)]
            result = session.generate([7, 8], max_tokens=3, ignore_eos=True, return_result=True)
            assert result.prompt_tokens == 9 + len(new) + 2
            assert result.reused_tokens >= 9
            assert result.ids == model.generate(
                [*prompt(9), *new, 7, 8], max_tokens=3, ignore_eos=True, return_result=True
            ).ids  # fmt: skip

    @pytest.mark.parametrize(
        "use",
        [
            lambda session: session.generate([5], max_tokens=1, return_result=True),
            lambda session: next(session.stream([5], ignore_eos=True)),
            lambda session: session.truncate(3),
            lambda session: session.nbytes,
            lambda session: session.cancel(),
            lambda session: session.close(),
        ],
    )
    def test_any_use_may_come_first(self, model: BitNetModel, use: Callable[[Any], object]) -> None:
        session = model.session()
        dropped(session, prompt(9))
        use(session)
        session.close()
        assert "closed" in repr(session)

    def test_a_prompt_that_does_not_fit_any_more_is_refused_before_any_work(
        self, model: BitNetModel
    ) -> None:
        with model.session() as session:
            dropped(session, prompt(1000))
            with pytest.raises(Exception, match="do not fit a context"):
                session.stream(prompt(280))

    def test_one_that_had_not_begun_changes_nothing(self, model: BitNetModel) -> None:
        with model.session() as session:
            session.stream(prompt(9))
            assert session.tokens == []
            session.generate([5], max_tokens=1, return_result=True)

    def test_a_stream_that_was_interrupted_and_dropped_has_had_no_effect(
        self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with model.session() as session:
            stream = begun(session, prompt(9))

            def interrupted(*arguments: Any) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(type(model.engine), "leave", interrupted)
                patch.setattr(type(session), "settle", interrupted)
                patch.setattr(type(model.engine), "advance", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    list(stream)
            del stream
            assert session.tokens == []


class TestMemory:
    def test_the_next_request_has_its_blocks(self, path: Path) -> None:
        with BitNetModel(path, n_threads=1) as model:
            budget = 3 * model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, n_threads=1, prefix_cache_bytes=budget) as model:
            for length in (500, 400, 600):
                dropped(model, prompt(length))
                dropped(model.session(), prompt(length))
            model.forward(prompt(3 * BLOCK_POSITIONS))
            dropped(model, prompt(700))
            model.engine.clear()
            assert model.engine.store.pool.nbytes == 0

    def test_what_it_computed_is_used_again(self, model: BitNetModel) -> None:
        dropped(model, prompt(301))
        again = model.generate(prompt(301), max_tokens=1, return_result=True)
        assert again.reused_tokens == 300

    def test_no_entry_stays_behind(self, model: BitNetModel) -> None:
        for _ in range(30):
            dropped(model, prompt(9))
        model.generate(prompt(9), max_tokens=1, return_result=True)
        model.engine.clear()
        store = model.engine.store
        assert store._admitted == {}
        assert [table for table in store.pool._tables.values() if table() is not None] == []

    def test_a_model_that_goes_with_its_streams_needs_no_collector(self, path: Path) -> None:
        model = BitNetModel(path, n_threads=1)
        session = model.session()
        dropped(model, prompt(9))
        dropped(session, prompt(9))
        stream = begun(session, prompt(9))
        engine = weakref.ref(model.engine)
        del model, session, stream
        assert engine() is None

    def test_closing_a_model_frees_them(self, path: Path) -> None:
        model = BitNetModel(path, n_threads=1)
        dropped(model, prompt(300))
        model.close()
        assert model.engine.store.pool.nbytes == 0


def test_dropping_in_one_thread_while_another_computes(model: BitNetModel) -> None:
    expected = model.generate(prompt(20), max_tokens=60, ignore_eos=True, return_result=True).ids
    found: list[Any] = []

    def reads() -> None:
        for _ in range(10):
            result = model.generate(prompt(20), max_tokens=60, ignore_eos=True, return_result=True)
            found.append(result.ids)

    def drops() -> None:
        with model.session() as session:
            for length in range(1, 60):
                dropped(model, prompt(length))
                dropped(session, [length])
            found.append(len(session.tokens) >= 2 * 59)

    threads = [threading.Thread(target=work) for work in (reads, drops, drops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(True) == 2
    assert [ids for ids in found if ids is not True] == [expected] * 10
