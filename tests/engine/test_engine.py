"""Many sequences at once: every text is bit for bit what it would have been alone."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, SamplingParams, errors
from ryzanstein_llm.engine.compute import new_cancel_flag
from ryzanstein_llm.engine.scheduler import Scheduler
from ryzanstein_llm.interfaces.kv_layout import BLOCK_POSITIONS
from ryzanstein_llm.sampling import Sampler

PATIENCE = 60
SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9, "top_k": 20, "seed": 3},
    {"temperature": 1.1, "top_p": 0.9, "seed": 4},
    {"temperature": 0.8, "repetition_penalty": 1.3, "frequency_penalty": 0.2, "seed": 5},
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(path):
    with BitNetModel(path, n_threads=2) as model:
        yield model


def together(*works: Callable[[], None]) -> None:
    """Run in a thread each; raise what one of them raised."""
    caught: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread waits for ever"
    if caught:
        raise caught[0]


def ids_of(model: Any, tokens: list[int], new: int, **options: Any) -> list[int]:
    result = model.generate(tokens, max_tokens=new, ignore_eos=True, return_result=True, **options)
    return result.ids


@pytest.fixture(scope="module")
def alone(path) -> Callable[..., list[int]]:
    """What a model that has seen nothing else gives."""

    def generate(tokens: list[int], new: int, **options: Any) -> list[int]:
        with BitNetModel(path, n_threads=1) as fresh:
            return ids_of(fresh, tokens, new, **options)

    return generate


class TestManySequences:
    def test_sixteen_threads_get_what_each_would_get_alone(self, model, alone):
        lengths = [1, 5, 60, 255, 256, 257, 300, 600] * 2
        cases = [
            (prompt(length), SAMPLINGS[i % len(SAMPLINGS)]) for i, length in enumerate(lengths)
        ]
        expected = [alone(tokens, 30, **options) for tokens, options in cases]
        found: dict[int, list[int]] = {}

        def work(index: int) -> None:
            tokens, options = cases[index]
            found[index] = ids_of(model, tokens, 30, **options)

        together(*[lambda index=index: work(index) for index in range(len(cases))])
        assert [found[index] for index in range(len(cases))] == expected

    def test_streams_and_sessions_of_many_threads(self, model, alone):
        expected = alone(prompt(40), 20)
        second = alone([*prompt(40), *expected, 7, 8], 10)

        def stream_of_ids() -> None:
            with model.session() as session:
                result = session.generate(
                    prompt(40), max_tokens=20, ignore_eos=True, return_result=True
                )
                assert result.ids == expected
                result = session.generate(
                    [7, 8], max_tokens=10, ignore_eos=True, return_result=True
                )
                assert result.ids == second

        together(*[stream_of_ids] * 8)

    def test_they_share_each_pass(self, model, monkeypatch):
        compute, sizes = model.engine._compute, []

        def counted(shares):
            sizes.append(len(shares))
            return compute(shares)

        monkeypatch.setattr(model.engine, "_compute", counted)
        begin = threading.Barrier(8)

        def work(seed: int) -> None:
            begin.wait()
            ids_of(model, prompt(20 + seed), 60)

        together(*[lambda seed=seed: work(seed) for seed in range(8)])
        assert max(sizes) == 8
        assert len(sizes) < 8 * 60 / 2

    def test_whatever_the_chunks(self, model, alone, monkeypatch):
        expected = alone(prompt(300), 10)
        for rows in (1, 3, 255, 256):
            monkeypatch.setattr(model.engine, "_scheduler", Scheduler(rows, rows))
            model.engine.clear()
            assert ids_of(model, prompt(300), 10) == expected

    def test_forward_takes_its_turn_among_them(self, model):
        expected = model.forward(prompt(300)).tobytes()

        def forward() -> None:
            for _ in range(10):
                assert model.forward(prompt(300)).tobytes() == expected

        together(forward, *[lambda: ids_of(model, prompt(30), 300)] * 3)

    def test_forward_in_many_threads_keeps_nobody_waiting(self, model, alone):
        expected, stop = alone(prompt(10), 20), threading.Event()

        def forward() -> None:
            while not stop.is_set():
                model.forward([5, 6, 7])

        def generate() -> None:
            try:
                assert ids_of(model, prompt(10), 20) == expected
            finally:
                stop.set()

        together(generate, *[forward] * 8)


class TestPrefixes:
    def test_a_second_conversation_that_begins_alike_reuses_full_blocks(self, model):
        tokens = prompt(1000)
        with model.session() as first:
            first.generate(tokens, max_tokens=3, ignore_eos=True, return_result=True)
            with model.session() as second:
                result = second.generate(
                    [*tokens[:900], 5, 6], max_tokens=3, ignore_eos=True, return_result=True
                )
        assert result.reused_tokens == 900

    def test_reuse_changes_nothing(self, model, alone):
        tokens = prompt(700)
        ids_of(model, tokens, 5)
        for common in (1, 100, 256, 400, 512, 699, 700):
            other = [*tokens[:common], *prompt(50)]
            assert ids_of(model, other, 8) == alone(other, 8), common

    def test_memory_is_where_it_was_after_many_sessions(self, model):
        def talk(seed: int) -> None:
            with model.session() as session:
                session.generate(
                    [seed % 300, *prompt(30)], max_tokens=4, ignore_eos=True, return_result=True
                )

        talk(0)
        before = model.engine.store.pool.nbytes
        for seed in range(1000):
            talk(seed)
        assert model.engine.store.pool.nbytes <= before

    def test_nothing_of_a_request_stays_without_the_garbage_collector(self, model):
        """Its cache would count until the collector comes, which programs may turn off."""
        tables = model.engine.store.pool._tables
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                ids_of(model, prompt(9), 2)
                with model.session() as session:
                    ids_of(session, prompt(9), 2)
            assert [table for table in tables.values() if table() is not None] == []
        finally:
            gc.enable()


class TestBudget:
    def test_what_can_never_fit_is_refused_before_any_work(self, path):
        with BitNetModel(path) as model:
            block = model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, prefix_cache_bytes=2 * block) as model:
            with pytest.raises(errors.CacheBudgetError) as caught:
                ids_of(model, prompt(513), 1)
            assert (caught.value.needed, caught.value.budget) == (3 * block, 2 * block)
            assert f"prefix_cache_bytes={2 * block} allows no more" in str(caught.value)
            cache = model.new_cache()
            model.forward(prompt(400), cache)
            with pytest.raises(errors.CacheBudgetError, match="close caches"):
                ids_of(model, prompt(300), 1)
            del cache
            result = model.generate(prompt(500), ignore_eos=True, return_result=True)
            assert (len(result.ids), result.finish_reason) == (12, "length")

    def test_a_budget_below_a_block_is_refused(self, path):
        with pytest.raises(errors.InvalidParameterError, match="prefix_cache_bytes must be"):
            BitNetModel(path, prefix_cache_bytes=1000)

    @pytest.mark.parametrize("blocks", [3, 4, 7])
    def test_who_finds_no_room_waits_for_those_who_came_before(self, path, alone, blocks):
        cases = [prompt(length) for length in (100, 300, 400, 500, 250, 260, 30, 511)]
        expected = [alone(tokens, 40) for tokens in cases]
        with BitNetModel(path, n_threads=2) as model:
            budget = blocks * model.engine.store.pool.layout.block_bytes
        found: dict[int, list[int]] = {}
        with BitNetModel(path, n_threads=2, prefix_cache_bytes=budget) as model:

            def work(index: int) -> None:
                for _ in range(2):
                    found[index] = ids_of(model, cases[index], 40)
                    assert model.engine.store.pool.nbytes <= budget

            together(*[lambda index=index: work(index) for index in range(len(cases))])
        assert [found[index] for index in range(len(cases))] == expected

    def test_a_stream_that_nobody_reads_gives_way_and_goes_on_later(self, path, alone):
        expected = alone(prompt(250), 30)
        with BitNetModel(path) as model:
            budget = 2 * model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, prefix_cache_bytes=budget) as model:
            engine = model.engine
            paused = engine.sequence(prompt(250), Sampler(SamplingParams()), max_tokens=30)
            paused._listener = _Reads(5)
            engine.advance(paused, to_end=False)
            assert ids_of(model, prompt(400), 5) == alone(prompt(400), 5)
            engine.advance(paused, to_end=True)
            assert paused.tokens[250:] == expected

    def test_such_a_stream_goes_on_in_a_forked_child_within_its_budget(self, path, alone):
        """Its cache is one of the child's own, also if it had lost its blocks before the fork."""
        expected = alone(prompt(250), 30)
        with BitNetModel(path) as model:
            budget = 2 * model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, prefix_cache_bytes=budget) as model:
            engine = model.engine
            paused = engine.sequence(prompt(250), Sampler(SamplingParams()), max_tokens=30)
            paused._listener = _Reads(8)
            engine.advance(paused, to_end=False)
            ids_of(model, prompt(400), 5)
            assert not paused.cache.blocks
            engine._after_fork()  # what a child does
            engine.advance(paused, to_end=True)
            assert paused.tokens[250:] == expected
            assert paused.cache.pool is engine.store.pool

    def test_a_stream_that_goes_with_a_cycle_leaves_nothing_wrong(self, path, alone):
        """The collector clears weak references before it runs finalisers: when `close` comes from
        one, the blocks may be in use by others already."""
        tokens, saved = prompt(300), []

        class Cycle:
            def __init__(self, sequence):
                self.sequence, self.itself = sequence, self

            def __del__(self):
                saved.append(self.sequence)

        with BitNetModel(path) as model:
            budget = 4 * model.engine.store.pool.layout.block_bytes
            logits = model.forward(prompt(1000)).tobytes()
        with BitNetModel(path, prefix_cache_bytes=budget) as model:
            engine = model.engine
            sequence = engine.sequence([*tokens], Sampler(SamplingParams()), max_tokens=30)
            sequence._listener = _Reads(8)
            engine.advance(sequence, to_end=False)
            Cycle(sequence)
            del sequence
            gc.collect()
            cache = model.new_cache()
            model.forward(prompt(1000)[:999], cache)  # takes all blocks
            engine.leave(saved[0])
            with pytest.raises(errors.CacheBudgetError):
                ids_of(model, tokens, 30)
            found = model.forward(prompt(1000)[999:], cache)
            assert found.tobytes() == logits[-len(found.tobytes()) :]
            del cache
            assert ids_of(model, tokens, 30) == alone(tokens, 30)
            engine.advance(saved[0], to_end=True)  # even this
            assert saved[0].tokens[300:] == alone(tokens, 30)

    def test_such_a_stream_gives_way_to_forward_too(self, path, alone):
        expected = alone(prompt(250), 30)
        with BitNetModel(path) as model:
            budget = 2 * model.engine.store.pool.layout.block_bytes
            logits = model.forward(prompt(400)).tobytes()
        with BitNetModel(path, prefix_cache_bytes=budget) as model:
            engine = model.engine
            paused = engine.sequence(prompt(250), Sampler(SamplingParams()), max_tokens=30)
            paused._listener = _Reads(8)
            engine.advance(paused, to_end=False)
            assert model.forward(prompt(400)).tobytes() == logits
            engine.advance(paused, to_end=True)
            assert paused.tokens[250:] == expected

    def test_caches_of_the_caller_count_and_are_not_taken(self, path):
        with BitNetModel(path) as model:
            budget = 2 * model.engine.store.pool.layout.block_bytes
        with BitNetModel(path, prefix_cache_bytes=budget) as model:
            cache = model.new_cache()
            model.forward(prompt(BLOCK_POSITIONS + 1), cache)
            with pytest.raises(errors.CacheBudgetError):
                ids_of(model, prompt(10), 1)
            del cache
            assert len(ids_of(model, prompt(10), 1)) == 1


class _Reads:
    """Reads whenever another `every` tokens are there."""

    def __init__(self, every: int) -> None:
        self.count, self._every = 0, every

    @property
    def unread(self) -> bool:
        return self.count > 0 and self.count % self._every == 0

    def add_token(self, token: int) -> bool:
        self.count += 1
        return False

    def replace_tokens(self, tokens: list[int]) -> bool:
        self.count = len(tokens)
        return False


class TestTroubleOfOne:
    """Whatever happens to one sequence, the others get their texts."""

    def others(self, model, alone) -> Callable[[], None]:
        expected = alone(prompt(50), 60)

        def work() -> None:
            for _ in range(3):
                assert ids_of(model, prompt(50), 60) == expected

        return work

    def test_one_is_cancelled(self, model, alone):
        work, choose = self.others(model, alone), random.Random(0)

        def cancelled() -> None:
            for _ in range(30):
                with model.session() as session:
                    timer = threading.Timer(choose.uniform(0, 0.01), session.cancel)
                    timer.start()
                    session.generate(
                        prompt(300), max_tokens=50, ignore_eos=True, return_result=True
                    )
                    timer.join()

        together(work, work, cancelled, cancelled)

    def test_one_is_cancelled_between_the_layers_and_the_head_of_forward(self, model, monkeypatch):
        """Logits are not those of a pass that was given up."""
        engine, compute = model.engine, model.engine._compute
        expected = model.forward(prompt(130))
        blocks = engine.blocks_of_logits(model.new_cache(), prompt(130), new_cancel_flag())
        found = [next(blocks)]
        sequence = engine.sequence(prompt(9), Sampler(SamplingParams()), max_tokens=9)

        def cancelled(shares):
            engine.cancel(sequence)
            return compute(shares)

        monkeypatch.setattr(engine, "_compute", cancelled)
        engine.advance(sequence, to_end=True)
        assert sequence.finish_reason == "cancelled"
        found += blocks
        assert np.concatenate(found).tobytes() == expected.tobytes()

    def test_the_leader_is_interrupted_within_a_pass(self, model, alone, monkeypatch):
        """As Ctrl-C does: KeyboardInterrupt in the thread that computes, at any pass."""
        compute, guard = model.engine._compute, threading.local()

        def interrupted(shares):
            answers = compute(shares)
            if getattr(guard, "countdown", 0):
                guard.countdown -= 1
                if not guard.countdown:
                    raise KeyboardInterrupt
            return answers

        monkeypatch.setattr(model.engine, "_compute", interrupted)
        work, reached = self.others(model, alone), []

        def leads() -> None:
            for attempt in range(40):
                guard.countdown = 1 + attempt % 7
                with model.session() as session:
                    try:
                        session.generate(
                            prompt(20), max_tokens=30, ignore_eos=True, return_result=True
                        )
                    except KeyboardInterrupt:
                        reached.append(attempt)
                        assert session.tokens == []
                    guard.countdown = 0

        together(work, work, leads)
        assert reached

    def test_the_leader_is_interrupted_while_it_takes_the_tokens_of_others(
        self, model, alone, monkeypatch
    ):
        """Text, sampler and tokens of the others recover, also with a random state."""
        options = {
            "temperature": 1.0,
            "repetition_penalty": 1.2,
            "presence_penalty": 0.1,
            "seed": 2,
        }
        expected = alone(prompt(40), 60, **options)
        choose, guard = Sampler.choose, threading.local()

        def interrupted(self, candidates, index):
            token = choose(self, candidates, index)
            if getattr(guard, "countdown", 0):
                guard.countdown -= 1
                if not guard.countdown:
                    raise KeyboardInterrupt
            return token

        monkeypatch.setattr(Sampler, "choose", interrupted)
        reached = []

        def work() -> None:
            for _ in range(3):
                assert ids_of(model, prompt(40), 60, **options) == expected

        def leads() -> None:
            for attempt in range(60):
                guard.countdown = 1 + attempt % 5
                try:
                    ids_of(model, prompt(15), 20)
                except KeyboardInterrupt:
                    reached.append(attempt)
                guard.countdown = 0

        together(work, work, work, leads)
        assert reached

    def test_an_error_of_one_does_not_reach_the_others(self, model, alone, monkeypatch):
        """For instance of what is told of its tokens, in whichever thread that is."""
        work, failed = self.others(model, alone), []

        class Fails(_Reads):
            def add_token(self, token: int) -> bool:
                super().add_token(token)
                if self.count == 3:
                    raise ZeroDivisionError
                return False

        def fails() -> None:
            for _ in range(10):
                sequence = model.engine.sequence(
                    prompt(30), Sampler(SamplingParams()), max_tokens=20, listener=Fails(100)
                )
                model.engine.advance(sequence, to_end=True)
                failed.append(type(sequence.error))
                model.engine.leave(sequence)

        together(work, work, fails)
        assert failed == [ZeroDivisionError] * 10

    def test_closing_the_model_ends_all_that_wait(self, path):
        model = BitNetModel(path, n_threads=2)
        ended = []

        def work() -> None:
            try:
                while True:
                    ids_of(model, prompt(100), 200)
            except errors.ClosedError:
                ended.append(True)

        def close() -> None:
            time.sleep(0.2)
            model.close()

        together(work, work, work, close)
        assert ended == [True] * 3

    def test_a_callback_cannot_ask_for_more(self, model):
        """It would wait for itself."""
        caught = []

        class Asks(_Reads):
            def add_token(self, token: int) -> bool:
                for ask in (lambda: ids_of(model, [5], 1), lambda: model.forward([5])):
                    with pytest.raises(errors.SessionBusyError, match="this thread is computing"):
                        ask()
                    caught.append(token)
                return True

        sequence = model.engine.sequence(
            prompt(5), Sampler(SamplingParams()), max_tokens=9, listener=Asks(1)
        )
        model.engine.advance(sequence, to_end=True)
        assert sequence.error is None
        assert sequence.finish_reason == "stop"
        assert len(caught) == 2


def test_a_short_prompt_does_not_wait_for_a_long_one(path):
    """It is read while the long one is under way, and its text is complete long before."""
    with BitNetModel(path, n_threads=1) as model:
        order: list[str] = []

        def long() -> None:
            ids_of(model, prompt(1200), 1)
            order.append("long")

        def short() -> None:
            while not (model.engine._computing or order):
                time.sleep(0.0005)
            ids_of(model, prompt(3), 1)
            order.append("short")

        model.engine._scheduler = Scheduler(32, 32)
        together(long, short)
        assert order == ["short", "long"]


def test_a_short_prompt_is_read_between_two_layers_of_a_long_one(path, alone):
    """The long one goes on from where it was, with the same bits."""
    expected = alone(prompt(500), 5), alone(prompt(20), 5)
    with BitNetModel(path, n_threads=2) as model:
        engine, found, reached = model.engine, {}, threading.Event()
        let_in = engine._let_in

        def when_it_is_there() -> None:
            reached.set()
            limit = time.monotonic() + PATIENCE
            while len(engine._waiting) < 2 and time.monotonic() < limit:
                time.sleep(0.001)
            let_in()
            assert len(engine._waiting) == 2
            found["within"] = max(each.new_tokens for each in engine._waiting)

        engine._let_in = when_it_is_there

        def short() -> None:
            assert reached.wait(PATIENCE)
            found["short"] = ids_of(model, prompt(20), 5)

        def long() -> None:
            found["long"] = ids_of(model, prompt(500), 5)

        together(long, short)
        assert found["within"] == 1
        assert (found["long"], found["short"]) == expected


def test_logits_that_are_not_finite_fail_their_own_sequence_alone(tmp_path):
    directory = write_small_model(tmp_path / "model")
    with BitNetModel(directory) as model:
        head = model.graph.head
        original = head.candidates

        def spoilt(hidden, queries, workspace):
            answers = original(hidden, queries, workspace)
            for query, answer in zip(queries, answers, strict=True):
                if query.count == 7:
                    answer.logits[:] = np.nan
            return answers

        head.candidates = spoilt
        bad = model.engine.sequence(
            prompt(9), Sampler(SamplingParams(temperature=1.0, top_k=7)), max_tokens=5
        )
        good = model.engine.sequence(prompt(9), Sampler(SamplingParams()), max_tokens=5)
        model.engine.advance(bad, good, to_end=True)
        assert isinstance(bad.error, errors.FormatError)
        assert good.error is None
        assert good.new_tokens == 5
