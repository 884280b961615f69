"""Leaving a stream: `cancel` from any thread, and `close` after it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, errors
from ryzanstein_llm.engine.scheduler import Scheduler
from ryzanstein_llm.generation import Generation

TALE = "Once upon a time"
PATIENCE = 60
"""Seconds after which a thread counts as stuck."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    directory = write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)
    with BitNetModel(directory, n_threads=1) as model:
        yield model


def started(work: Callable[[], Any], after: float = 0) -> Callable[[], Any]:
    """Runs `work` in a thread, after so many seconds; what is returned waits for it and gives its
    result or error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            time.sleep(after)
            outcome.append((work(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(PATIENCE)
        assert outcome, "the thread is stuck"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return wait


def seconds_of(model: BitNetModel, max_tokens: int) -> float:
    """What a stream of so many tokens takes on this machine."""
    start = time.perf_counter()
    list(model.stream(TALE, max_tokens=max_tokens))
    return time.perf_counter() - start


def held(monkeypatch, model) -> tuple[threading.Event, threading.Event]:
    """From now on a token is not computed before the second event; the first says that one is
    about to be."""
    computing, may_end = threading.Event(), threading.Event()
    compute = model.engine._compute

    def slowly(*arguments):
        computing.set()
        assert may_end.wait(PATIENCE)
        return compute(*arguments)

    monkeypatch.setattr(model.engine, "_compute", slowly)
    return computing, may_end


@pytest.fixture(params=["of the model", "of a session"])
def stream_of(request, model) -> Iterator[Callable[..., Any]]:
    if request.param == "of the model":
        yield model.stream
    else:
        with model.session() as session:
            yield session.stream


class TestCancel:
    def test_between_two_pieces(self, stream_of, model):
        stream = stream_of(TALE, max_tokens=100)
        pieces = [next(stream) for _ in range(5)]
        stream.cancel()
        pieces += stream  # at most what was held back for want of a whole character
        assert len(pieces) <= 6
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.text == "".join(pieces)
        assert stream.result.ids == model.generate(
            TALE, max_tokens=len(stream.result.ids), return_result=True
        ).ids  # fmt: skip

    def test_while_another_thread_computes(self, stream_of, model, monkeypatch):
        computing, may_end = held(monkeypatch, model)
        stream = stream_of(TALE, max_tokens=100)
        pieces = started(lambda: list(stream))
        assert computing.wait(PATIENCE)
        stream.cancel()  # returns at once
        may_end.set()
        assert pieces() == []
        assert stream.result.finish_reason == "cancelled"

    def test_within_a_long_prompt(self, stream_of, model, monkeypatch):
        """In pieces of eight tokens it has 150 of them; none begins after the one that runs."""
        monkeypatch.setattr(model.engine, "_scheduler", Scheduler(prompt_rows=8))
        stream, passes, compute = stream_of(prompt(1200), max_tokens=5), [], model.engine._compute

        def cancelled_in_the_third(*arguments):
            passes.append(arguments)
            if len(passes) == 3:
                started(stream.cancel)()
            return compute(*arguments)

        monkeypatch.setattr(model.engine, "_compute", cancelled_in_the_third)
        assert list(stream) == []
        assert len(passes) == 3
        assert stream.result.finish_reason == "cancelled"
        assert (stream.result.ids, stream.result.prompt_tokens) == ([], 1200)

    def test_before_the_first_piece(self, stream_of, model, monkeypatch):
        monkeypatch.setattr(model.engine, "_compute", None)  # nothing is computed
        stream = stream_of(TALE)
        stream.cancel()
        assert list(stream) == []
        result = stream.result
        assert (result.text, result.ids, result.finish_reason) == ("", [], "cancelled")
        assert result.usage["total_tokens"] == 0

    def test_before_the_first_piece_leaves_the_session_as_it_is(self, model):
        with model.session() as session:
            session.generate(TALE, max_tokens=3)
            tokens = session.tokens
            busy = session.stream(" and", max_tokens=3)
            next(busy)
            idle = session.stream(" or", max_tokens=3)
            idle.cancel()
            assert list(idle) == []  # not SessionBusyError: it has no use for the session
            assert len(list(busy)) == 2
            assert session.tokens[: len(tokens)] == tokens
            assert idle.result.finish_reason == "cancelled"

    def test_after_the_last_token_but_before_the_end(self, stream_of):
        """The reason does not depend on whether there was more to come."""
        stream = stream_of(TALE, max_tokens=1)
        next(stream)
        stream.cancel()
        assert list(stream) == []
        assert stream.result.finish_reason == "cancelled"

    def test_after_the_end_does_nothing(self, stream_of):
        stream = stream_of(TALE, max_tokens=3)
        list(stream)
        result = stream.result
        stream.cancel()
        assert list(stream) == []
        assert stream.result is result
        assert result.finish_reason == "length"

    def test_after_closing_does_nothing(self, stream_of):
        stream = stream_of(TALE)
        next(stream)
        stream.close()
        result = stream.result
        stream.cancel()
        assert stream.result is result
        assert "closed" in repr(stream)

    def test_no_other_stream(self, model):
        whole = model.generate(TALE, max_tokens=20)
        with model.session() as session:
            streams = [
                model.stream(TALE, max_tokens=20),
                session.stream(TALE, max_tokens=20),
                model.stream(TALE, max_tokens=20),
            ]
            texts = [next(stream) for stream in streams]
            streams[0].cancel()
            texts = [text + "".join(stream) for text, stream in zip(texts, streams, strict=True)]
        assert [stream.result.finish_reason for stream in streams] == [
            "cancelled", "length", "length",
        ]  # fmt: skip
        assert texts[1:] == [whole, whole]
        assert whole.startswith(texts[0])
        assert len(texts[0]) < len(whole)

    def test_no_later_request_in_the_same_session(self, model):
        with model.session() as session:
            failed = session.stream(TALE, max_tokens=20)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(model.engine, "_compute", None)
                with pytest.raises(TypeError):
                    next(failed)
            later = session.stream(TALE, max_tokens=20)
            text = next(later)
            failed.cancel()  # it has no result, and is over
            assert text + "".join(later) == model.generate(TALE, max_tokens=20)

    def test_no_later_request_of_the_pool_however_close(self, model):
        """Cancelling as one request ends and the next begins in the same pooled session."""
        usual, choose, reasons = seconds_of(model, 2), random.Random(1), set()
        expected = model.generate(TALE, max_tokens=6)
        for _ in range(500):
            first = model.stream(TALE, max_tokens=2)
            cancelled = started(first.cancel, after=choose.uniform(0, 3 * usual))
            list(first)
            assert model.generate(TALE, max_tokens=6) == expected
            cancelled()
            reasons.add(first.result.finish_reason)
        assert reasons == {"cancelled", "length"}

    def test_of_the_session_ends_what_runs_and_nothing_later(self, model):
        with model.session() as session:
            first = session.stream(TALE, max_tokens=50)
            next(first)
            session.cancel()
            list(first)
            assert first.result.finish_reason == "cancelled"
            session.truncate(0)
            session.cancel()  # nothing runs
            assert session.generate(TALE, max_tokens=9) == model.generate(TALE, max_tokens=9)


class TestClose:
    def test_waits_for_a_thread_that_has_just_reached_the_end(self, model, monkeypatch):
        """`cancel` does nothing any more then, and `close` must not call the stream busy."""
        ended, may_go, finish = threading.Event(), threading.Event(), Generation._finish

        def held_at_the_end(self, reason):
            finish(self, reason)
            ended.set()
            assert may_go.wait(PATIENCE)

        monkeypatch.setattr(Generation, "_finish", held_at_the_end)
        stream = model.stream(TALE, max_tokens=3)
        pieces = started(lambda: list(stream))
        assert ended.wait(PATIENCE)
        stream.cancel()
        closed = threading.Event()
        close = started(lambda: (stream.close(), closed.set()))
        assert not closed.wait(0.05)
        may_go.set()
        close()
        pieces()
        assert stream.result.finish_reason == "length"

    def test_waits_for_the_computing_thread_once_cancelled(self, model, monkeypatch):
        computing, may_end = held(monkeypatch, model)
        with model.session() as session:
            stream = session.stream(TALE, max_tokens=100)
            pieces = started(lambda: list(stream))
            assert computing.wait(PATIENCE)
            with pytest.raises(errors.SessionBusyError, match=r"cancel\(\) stops it"):
                stream.close()
            stream.cancel()
            closed = threading.Event()
            close = started(lambda: (stream.close(), closed.set()))
            assert not closed.wait(0.05)
            may_end.set()
            close()
            assert stream.result.finish_reason == "cancelled"
            assert pieces() == []
            assert session.generate([], max_tokens=2) is not None

    def test_before_the_first_piece_is_the_end_too(self, model):
        with model.session() as session:
            stream = session.stream(TALE)
            stream.close()
            stream.close()
            assert list(stream) == []
            assert stream.result.finish_reason == "cancelled"
            assert session.tokens == []

    def test_by_a_signal_handler_of_the_computing_thread_is_refused(self, model, monkeypatch):
        """It cannot wait for itself. `cancel` has worked by then."""
        compute, refused = model.engine._compute, []

        def interrupted(*arguments):
            stream.cancel()
            with pytest.raises(errors.SessionBusyError, match="this thread"):
                stream.close()
            refused.append(True)
            return compute(*arguments)

        monkeypatch.setattr(model.engine, "_compute", interrupted)
        stream = model.stream(TALE, max_tokens=50)
        assert list(stream) == []
        assert refused == [True]

    def test_by_a_signal_handler_of_the_thread_that_computes_for_it_is_refused(self, model):
        """Its reader waits for this very thread: it would wait for ever."""
        engine, compute, refused = model.engine, model.engine._compute, []
        stream, leads = model.stream(TALE, max_tokens=50), threading.Event()

        def read() -> list[str]:
            assert leads.wait(PATIENCE)
            return list(stream)

        def interrupted(shares):
            leads.set()
            limit = time.monotonic() + PATIENCE
            while len(engine._waiting) < 2 and not refused and time.monotonic() < limit:
                time.sleep(0.001)
            if len(shares) == 2 and not refused:
                stream.cancel()
                with pytest.raises(errors.SessionBusyError, match="this thread computes"):
                    stream.close()
                refused.append(True)
            return compute(shares)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "_compute", interrupted)
            reading = started(read)
            started(lambda: model.generate(TALE, max_tokens=20, ignore_eos=True))()
            reading()
        assert refused == [True]

    @pytest.mark.parametrize("closers", [1, 3])
    def test_five_hundred_races_leave_the_session_usable(self, model, closers):
        """One thread reads, one cancels, others cancel and close, at random times."""
        usual, choose, reasons = seconds_of(model, 12), random.Random(2), set()
        whole = model.generate(TALE, max_tokens=12)
        with model.session() as session:
            for _ in range(500):
                stream = session.stream(TALE, max_tokens=12)

                def leave(stream=stream):
                    stream.cancel()
                    stream.close()

                leaving = [
                    started(step, after=choose.uniform(0, 2 * usual))
                    for step in (stream.cancel, *[leave] * closers)
                ]
                text = "".join(stream)
                for wait in leaving:
                    wait()
                result = stream.result
                reasons.add(result.finish_reason)
                assert text == result.text
                assert text == whole if result.finish_reason == "length" else whole.startswith(text)
                session.truncate(0)
                assert session.generate(TALE, max_tokens=12) == whole
                session.truncate(0)
        assert "cancelled" in reasons

    def test_many_threads_with_streams_of_their_own(self, model):
        """Pooled sessions change hands among eight threads while half the streams are left."""
        usual, whole = seconds_of(model, 12), model.generate(TALE, max_tokens=12)

        def visit(seed):
            choose = random.Random(seed)
            for _ in range(60):
                stream = model.stream(TALE, max_tokens=12)
                if choose.random() < 0.5:
                    assert "".join(stream) == whole
                    continue
                cancelled = started(stream.cancel, after=choose.uniform(0, 16 * usual))
                text = "".join(stream)
                cancelled()
                assert text == stream.result.text
                if stream.result.finish_reason == "length":
                    assert text == whole

        for wait in [started(lambda seed=seed: visit(seed)) for seed in range(8)]:
            wait()
        assert model.generate(TALE, max_tokens=12) == whole
