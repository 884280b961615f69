"""The interface for asyncio: texts are those of `generate`, tasks can be cancelled at any time, and
no thread outlives its use."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import AsyncTextIterator, BitNetModel, errors
from ryzanstein_llm.asynchronous.runner import AHEAD
from ryzanstein_llm.engine.scheduler import Scheduler
from ryzanstein_llm.engine.sequence import Sequence

PATIENCE = 60
TALE = "Once upon a time"
TEXTS = [TALE, "", "The king", "x", TALE, "A fox. " * 30]
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TALK = [{"role": "user", "content": "Who was the king?"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)


@pytest.fixture
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=1) as model:
        yield model


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_use() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= before)


def wait_until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < limit, "a thread does not end"
        time.sleep(0.001)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, PATIENCE))


class Slow:
    """A logits_processor with which a text takes seconds, so it is seen while it is under way."""

    def __init__(self) -> None:
        self._called = False

    def __call__(self, tokens: Any, logits: Any) -> None:
        self._called = True
        time.sleep(0.005)

    async def began(self) -> None:
        while not self._called:
            await asyncio.sleep(0.001)


class Panic(BaseException):
    """What Rust's libraries raise when they fail: no Exception."""


def test_no_task_waits_for_ever_when_a_library_panics(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: Any) -> bool:
        raise Panic

    async def ask() -> Any:
        with monkeypatch.context() as context:
            context.setattr(Sequence, "choose", choose)
            asked = [model.agenerate(TALE, max_tokens=3) for _ in range(3)]
            failed = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
        assert [type(each.__cause__) for each in failed] == [Panic] * 3
        return await model.agenerate(TALE, max_tokens=3)

    assert run(ask()) == model.generate(TALE, max_tokens=3)


@pytest.mark.parametrize("kind", ["text", "chat"])
def test_a_stream_shows_its_state(model: BitNetModel, kind: str) -> None:
    def stream(**options: Any) -> Any:
        if kind == "text":
            return model.astream(TALE, **options)
        pytest.importorskip("jinja2", reason="extra chat")
        return model.achat_stream(TALK, chat_template=TURNS, **options)

    name = "AsyncTextIterator" if kind == "text" else "AsyncChatStream"

    async def states() -> None:
        whole = stream(max_tokens=4, temperature=0, ignore_eos=True)
        assert repr(whole) == f"{name}(not started)"
        async for _ in whole:
            assert re.fullmatch(
                rf"{name}\((running|finished 'length') with \d tokens?\)", repr(whole)
            )
        assert repr(whole) == f"{name}(finished 'length' with 4 tokens)"
        assert "finished" in whole._repr_html_()

        left = stream(max_tokens=4)
        left.cancel()
        assert repr(left) == f"{name}(cancelled before it began)"

        async with stream(max_tokens=None, ignore_eos=True) as early:
            await anext(getattr(early, "_pieces", early))  # an answer may begin with blanks
        assert re.fullmatch(rf"{name}\(cancelled with \d+ tokens?\)", repr(early))

        failing = model.astream([10**9]) if kind == "text" else stream(logits_processor=fail)
        with pytest.raises((errors.InvalidParameterError, ZeroDivisionError)):
            await anext(failing)
        assert repr(failing) in (f"{name}(not started)", f"{name}(failed)")

    def fail(tokens: list[int], logits: Any) -> None:
        raise ZeroDivisionError

    run(states())


async def read(stream: Any) -> list[Any]:
    return [piece async for piece in stream]


def counted(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Will hold the number of sequences of each pass."""
    passes: list[int] = []
    compute = model.engine._compute

    def counting(shares: Any) -> Any:
        passes.append(len(shares))
        return compute(shares)

    monkeypatch.setattr(model.engine, "_compute", counting)
    return passes


class TestTexts:
    @pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 3}, {"stop": ["a"]}])
    def test_are_those_of_generate(self, model: BitNetModel, options: dict[str, Any]) -> None:
        options = {"max_tokens": 20, **options}
        expected = model.generate(TEXTS, **options)

        async def several() -> list[str]:
            return await asyncio.gather(*(model.agenerate(text, **options) for text in TEXTS))

        async def streams() -> list[list[str]]:
            return await asyncio.gather(*(read(model.astream(text, **options)) for text in TEXTS))

        assert run(several()) == expected
        assert run(model.agenerate(TEXTS, **options)) == expected
        assert ["".join(pieces) for pieces in run(streams())] == expected

    def test_everything_that_generate_takes(self, model: BitNetModel) -> None:
        options: dict[str, Any] = {"n": 2, "seed": 3, "temperature": 1.0, "max_tokens": 4}
        told: list[Any] = []
        found = run(
            model.agenerate(
                ["The king", 5],  # type: ignore[list-item]
                errors="return",
                progress=lambda *each: told.append(each),
                **options,
            )
        )
        assert found[0] == model.generate("The king", **options)
        assert isinstance(found[1], errors.InvalidParameterError)
        assert told == [(1, 2, "generating"), (2, 2, "generating")]
        result = run(model.agenerate(TALE, max_tokens=3, return_result=True))
        assert result.ids == model.generate(TALE, max_tokens=3, return_result=True).ids

    def test_a_cancelled_answer_has_a_result_without_being_read(self, model: BitNetModel) -> None:
        async def work() -> None:
            stream = model.achat_stream(
                [{"role": "user", "content": TALE}],
                chat_template="{{ messages[0].content }}",
                ignore_eos=True,
            )
            await anext(stream)
            stream.cancel()
            for _ in range(1000):
                await asyncio.sleep(0.01)
                with contextlib.suppress(errors.UnfinishedStreamError):
                    assert stream.result.finish_reason == "cancelled"
                    return
            raise AssertionError("no result")

        run(work())

    def test_a_stream_has_pieces_and_a_result(self, model: BitNetModel) -> None:
        async def work() -> None:
            stream = model.astream(TALE, max_tokens=20)
            with pytest.raises(errors.UnfinishedStreamError, match="has not ended"):
                _ = stream.result
            pieces = await read(stream)
            assert len(pieces) > 3
            assert stream.result.text == "".join(pieces)
            assert stream.result.finish_reason == "length"
            assert await read(stream) == []

        run(work())

    def test_chats(self, model: BitNetModel) -> None:
        pytest.importorskip("jinja2", reason='pip install "ryzanstein_llm[chat]"')
        options: dict[str, Any] = {"chat_template": TURNS, "max_tokens": 20, "seed": 1}
        expected = model.chat(TALK, **options).text

        async def work() -> None:
            assert (await model.achat(TALK, **options)).text == expected
            async with model.achat_stream(TALK, **options) as stream:
                assert "".join(map(str, await read(stream))) == expected
            assert stream.result.text == expected
            async with model.achat_stream(TALK, **options) as stream:
                await anext(stream)
            assert stream.result.finish_reason in ("cancelled", "length")
            async with model.achat_stream(TALK, **options):
                pass  # not begun
            with pytest.raises(errors.InvalidParameterError, match="messages"):
                await model.achat([{"role": "nobody"}], **options)

        run(work())


class TestErrors:
    def test_are_raised_where_the_task_waits(self, model: BitNetModel) -> None:
        async def work() -> None:
            with pytest.raises(errors.InvalidParameterError, match="prompt must be str"):
                await model.agenerate(5)  # type: ignore[call-overload]
            with pytest.raises(errors.ContextOverflowError, match=r"prompt\[1\]: 1281 tokens"):
                await model.agenerate([TALE, [5] * 1281])  # type: ignore[list-item]
            with pytest.raises(errors.InvalidParameterError, match="max_tokens must be"):
                model.astream(TALE, max_tokens=-1)  # at once
            with pytest.raises(errors.ContextOverflowError):
                await anext(model.astream([5] * 1281))

        run(work())

    def test_outside_of_an_event_loop(self, model: BitNetModel) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            model.agenerate(TALE).send(None)

    def test_a_stream_is_for_one_task(self, model: BitNetModel) -> None:
        async def work() -> None:
            stream = model.astream(TALE, max_tokens=5)
            first, second = await asyncio.gather(
                anext(stream), anext(stream), return_exceptions=True
            )
            assert isinstance(first, str)
            assert isinstance(second, errors.SessionBusyError)

        run(work())

    def test_closing_the_model_ends_all_that_wait(self, path: Path) -> None:
        model = BitNetModel(path, n_threads=1)

        async def work() -> None:
            slow = Slow()
            options: Any = {"ignore_eos": True, "logits_processor": slow}
            tasks = [
                asyncio.create_task(model.agenerate(prompt(9), **options)),
                asyncio.create_task(read(model.astream(prompt(8), **options))),
            ]
            await slow.began()
            await asyncio.to_thread(model.close)
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(found, errors.ClosedError)
            with pytest.raises(errors.ClosedError):
                await model.agenerate(TALE)

        run(work())


class TestThreads:
    @pytest.mark.parametrize("name", ["prepares", "computes"])
    @pytest.mark.parametrize("kind", ["a text", "texts", "a stream"])
    def test_where_one_is_refused_nothing_has_happened(self, model, monkeypatch, name, kind):
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if name in thread.name:
                raise RuntimeError("can't start new thread")
            start(thread)

        async def ask() -> Any:
            if kind == "texts":
                return await model.agenerate([TALE, "x"], max_tokens=3)
            if kind == "a stream":
                return await read(model.astream(TALE, max_tokens=3))
            return await model.agenerate(TALE, max_tokens=3)

        async def work() -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                with pytest.raises(errors.ResourceLimitError, match="can't start new thread"):
                    await ask()
            return await ask()

        assert run(work()) == run(ask())

    def test_200_tasks_are_one_batch(
        self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes, before, most = counted(model, monkeypatch), threading.active_count(), [0]
        prompts = [prompt(2 + i % 7) for i in range(200)]
        expected = model.generate(prompts, max_tokens=30, ignore_eos=True)
        del passes[:]

        async def one(tokens: list[int], i: int) -> str:
            if i % 2:
                return await model.agenerate(tokens, max_tokens=30, ignore_eos=True)
            pieces = []
            async for piece in model.astream(tokens, max_tokens=30, ignore_eos=True):
                pieces.append(piece)
                most.append(threading.active_count())
            return "".join(pieces)

        async def work() -> list[str]:
            return await asyncio.gather(*(one(each, i) for i, each in enumerate(prompts)))

        assert run(work()) == expected
        assert max(passes) == 200
        assert sum(passes) < 200 * 31
        assert max(most) <= before + 2  # one computes, one prepares

    def test_more_than_256_wait_their_turn(
        self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes = counted(model, monkeypatch)
        prompts = [prompt(2 + i % 7) for i in range(300)]
        found = run(model.agenerate(prompts, max_tokens=3))
        assert max(passes) <= 256
        assert found == model.generate(prompts, max_tokens=3)

    def test_two_loops_and_a_thread_at_once(self, model: BitNetModel) -> None:
        prompts = [prompt(length) for length in (5, 60, 300)]
        expected = [model.generate(tokens, max_tokens=30) for tokens in prompts]
        found: list[Any] = []

        async def work() -> list[str]:
            return await asyncio.gather(*(model.agenerate(p, max_tokens=30) for p in prompts))

        works: list[Callable[[], Any]] = [
            lambda: run(work()),
            lambda: run(work()),
            lambda: [model.generate(tokens, max_tokens=30) for tokens in prompts],
        ]
        threads = [
            threading.Thread(target=lambda each=each: found.append(each())) for each in works * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert found == [expected] * 6

    def test_what_nobody_reads_is_not_computed(self, model: BitNetModel) -> None:
        before = threading.active_count()

        async def work() -> None:
            stream = model.astream(prompt(5), max_tokens=300, ignore_eos=True)
            first = await anext(stream)
            while threading.active_count() > before:
                await asyncio.sleep(0.01)
            generation = stream._request.generation  # type: ignore[union-attr]
            assert generation.unread_pieces >= AHEAD - 1  # one was read meanwhile
            assert generation.new_tokens < 100
            rest = await read(stream)  # it goes on
            expected = model.generate(
                prompt(5), max_tokens=300, ignore_eos=True, return_result=True
            )
            assert first + "".join(rest) == expected.text
            assert stream.result.ids == expected.ids

        run(work())

    @pytest.mark.parametrize("how", ["cancel", "aclose"])
    def test_a_stream_that_pauses_can_be_ended(self, model: BitNetModel, how: str) -> None:
        before = threading.active_count()

        async def work() -> None:
            stream = model.astream(prompt(5), ignore_eos=True)
            pieces = [await anext(stream)]
            while threading.active_count() > before:
                await asyncio.sleep(0.01)
            if how == "cancel":
                stream.cancel()
                pieces += await read(stream)
                assert stream.result.text == "".join(pieces)
            else:
                await stream.aclose()
            assert stream.result.finish_reason == "cancelled"

        run(work())

    def test_a_dropped_stream_leaves_nothing_without_the_garbage_collector(
        self, model: BitNetModel
    ) -> None:
        before, tables = threading.active_count(), model.engine.store.pool._tables
        gc.collect()
        gc.disable()
        try:

            async def work() -> None:
                stream = model.astream(prompt(5), max_tokens=1000, ignore_eos=True)
                await anext(stream)
                while threading.active_count() > before:
                    await asyncio.sleep(0.01)

            run(work())
            wait_until(lambda: not any(table() is not None for table in [*tables.values()][:-1]))
            model.generate(prompt(3), max_tokens=1)
            assert [table for table in tables.values() if table() is not None] == []
        finally:
            gc.enable()

    # asyncio cannot tell a task whose loop is closed that it ends
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_loop_that_was_closed_keeps_no_thread(self, model: BitNetModel) -> None:
        loop, before = asyncio.new_event_loop(), threading.active_count()

        async def begin() -> asyncio.Task[str]:
            slow = Slow()
            options: Any = {"ignore_eos": True, "logits_processor": slow}
            task = asyncio.ensure_future(model.agenerate(prompt(9), **options))
            await slow.began()
            return task

        task: Any = loop.run_until_complete(begin())
        loop.close()
        wait_until(lambda: threading.active_count() <= before)
        task._log_destroy_pending = False
        del task
        gc.collect()


class TestCancelling:
    def test_within_a_long_prompt(
        self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In pieces of eight tokens it has 150 of them; none begins after the one that runs."""
        monkeypatch.setattr(model.engine, "_scheduler", Scheduler(prompt_rows=8))
        passes, compute = [0], model.engine._compute
        tasks: list[asyncio.Task[Any]] = []

        def cancelled_in_the_third(shares: Any) -> Any:
            passes[0] += 1
            if passes[0] == 3:
                done = threading.Event()
                loop = tasks[0].get_loop()
                # the flag is set when the task has run, and nothing else does in between
                loop.call_soon_threadsafe(tasks[0].cancel)
                tasks[0].add_done_callback(lambda _: done.set())
                assert done.wait(PATIENCE)
            return compute(shares)

        monkeypatch.setattr(model.engine, "_compute", cancelled_in_the_third)

        async def work() -> None:
            tasks.append(asyncio.create_task(model.agenerate(prompt(1200), max_tokens=5)))
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]

        run(work())
        wait_until(lambda: not model.engine._computing)
        assert passes[0] == 3

    @pytest.mark.parametrize("how", ["cancel the task", "time out", "cancel", "aclose", "with"])
    def test_of_a_stream(self, model: BitNetModel, how: str) -> None:
        async def work() -> None:
            stream: AsyncTextIterator = model.astream(prompt(5), ignore_eos=True)
            pieces = [await anext(stream)]
            if how == "cancel the task":
                task = asyncio.create_task(read(stream))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await stream.aclose()
            elif how == "time out":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(read(stream), 0.01)
                await stream.aclose()
            elif how == "cancel":
                stream.cancel()
                pieces += await read(stream)
                assert stream.result.text == "".join(pieces)
            elif how == "aclose":
                await stream.aclose()
                assert await read(stream) == []
            else:
                async with stream:
                    pass
            assert stream.result.finish_reason == "cancelled"
            assert (
                stream.result.ids
                == model.generate(
                    prompt(5),
                    max_tokens=len(stream.result.ids),
                    ignore_eos=True,
                    return_result=True,
                ).ids
            )

        run(work())

    def test_before_it_begins(self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model.engine, "_compute", None)  # nothing is computed

        async def work() -> None:
            stream = model.astream(TALE)
            stream.cancel()
            assert await read(stream) == []
            assert stream.result.finish_reason == "cancelled"
            task = asyncio.create_task(model.agenerate(TALE))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(work())

    def test_of_one_does_not_reach_the_others(self, model: BitNetModel) -> None:
        expected = model.generate(prompt(50), max_tokens=60)

        async def work() -> None:
            others = [
                asyncio.create_task(model.agenerate(prompt(50), max_tokens=60)) for _ in range(3)
            ]
            choose = random.Random(0)
            for _ in range(20):
                task = asyncio.create_task(model.agenerate(prompt(300), ignore_eos=True))
                await asyncio.sleep(choose.uniform(0, 0.01))
                task.cancel()
            assert await asyncio.gather(*others) == [expected] * 3

        run(work())

    def test_of_a_batch_ends_all_of_it(
        self, model: BitNetModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work() -> None:
            prompts, slow = [prompt(length) for length in range(3, 23)], Slow()
            options: Any = {"ignore_eos": True, "logits_processor": slow}
            task = asyncio.create_task(model.agenerate(prompts, **options))
            await slow.began()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(work())
        wait_until(lambda: not model.engine._waiting)
        assert model.generate(TALE, max_tokens=3) == model.generate(TALE, max_tokens=3)

    @pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
    def test_ctrl_c(self, model: BitNetModel) -> None:
        async def work() -> None:
            slow = Slow()
            options: Any = {"ignore_eos": True, "logits_processor": slow}
            tasks = [asyncio.create_task(model.agenerate(prompt(9), **options))]
            await slow.began()
            signal.raise_signal(signal.SIGINT)
            await asyncio.gather(*tasks)

        expected = model.generate(TALE, max_tokens=5)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(work())
        wait_until(lambda: not model.engine._waiting)
        assert model.generate(TALE, max_tokens=5) == expected


def test_memory_is_where_it_was_after_a_thousand_requests_that_may_be_cancelled(
    model: BitNetModel,
) -> None:
    choose, store = random.Random(1), model.engine.store

    async def one(i: int) -> None:
        tokens, new = prompt(choose.randrange(1, 60)), choose.randrange(1, 12)
        if i % 4 == 0:
            work: Any = model.agenerate([tokens, tokens[:3]], max_tokens=new, n=1 + i % 3)
        elif i % 4 == 1:
            work = model.agenerate(tokens, max_tokens=new)
        else:
            work = read(model.astream(tokens, max_tokens=new))
        task = asyncio.ensure_future(work)
        if choose.random() < 0.5:
            await asyncio.sleep(choose.uniform(0, 0.02))
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def work() -> None:
        for start in range(0, 1000, 50):
            await asyncio.gather(*(one(start + i) for i in range(50)))

    asyncio.run(work())
    wait_until(lambda: not model.engine._waiting)
    gc.collect()
    model.engine.clear()
    assert [each for each in store.pool._tables.values() if each() is not None] == []
    assert store.pool.nbytes == 0
    assert not store._admitted
