"""Prompts that begin alike and come at the same moment are computed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.engine.followers import LEAST_COMMON
from ryzanstein_llm.engine.sequence import Sequence
from ryzanstein_llm.engine.shares import Share
from ryzanstein_llm.models import decoder
from ryzanstein_llm.sampling import Sampler

PATIENCE = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(path: Path) -> Iterator[BitNetModel]:
    with BitNetModel(path, n_threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def alone(path: Path) -> Callable[[list[int], int], list[int]]:
    """What a model that has seen nothing else gives."""

    def generate(tokens: list[int], new: int) -> list[int]:
        with BitNetModel(path, n_threads=1) as fresh:
            sequence = sequence_of(fresh, tokens, new)
            fresh.engine.advance(sequence, to_end=True)
            return sequence.tokens[len(tokens) :]

    return generate


def sequence_of(model: BitNetModel, tokens: list[int], new: int) -> Sequence:
    return model.engine.sequence([*tokens], Sampler(SamplingParams()), max_tokens=new)


def counted(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Will hold the rows of each pass."""
    passes: list[list[int]] = []
    compute = model.engine._compute

    def counting(shares: list[Share]) -> Any:
        passes.append([share.rows for share in shares])
        return compute(shares)

    monkeypatch.setattr(model.engine, "_compute", counting)
    return passes


def run(model: BitNetModel, prompts: list[list[int]], new: int) -> list[Sequence]:
    """All of them arrive at the same moment."""
    sequences = [sequence_of(model, tokens, new) for tokens in prompts]
    model.engine.advance(*sequences, to_end=True)
    for sequence in sequences:
        model.engine.leave(sequence)
    return sequences


@pytest.mark.parametrize("length", [40, 255, 256, 257, 500, 600])
def test_sixteen_equal_prompts_are_computed_once(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch, alone: Any, length: int
) -> None:
    passes = counted(model, monkeypatch)
    sequences = run(model, [prompt(length)] * 16, 5)
    assert sum(map(sum, passes)) == length + 15 + 16 * 4
    expected = alone(prompt(length), 5)
    assert [sequence.tokens[length:] for sequence in sequences] == [expected] * 16
    assert [sequence.reused_tokens for sequence in sequences] == [0] + [length - 1] * 15


def test_one_token_each_is_enough(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = counted(model, monkeypatch)
    run(model, [prompt(300)] * 4, 1)
    assert sum(map(sum, passes)) == 300 + 3


def test_a_common_beginning_is_computed_once(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch, alone: Any
) -> None:
    prompts = [[*prompt(300), *prompt(length)] for length in (20, 50, 33, 20)]
    passes = counted(model, monkeypatch)
    sequences = run(model, prompts, 3)
    # the first and the last are equal
    assert sum(map(sum, passes)) == 320 + 50 + 33 + 1 + 4 * 2
    for sequence, tokens in zip(sequences, prompts, strict=True):
        assert sequence.tokens[len(tokens) :] == alone(tokens, 3)


def test_a_beginning_that_is_too_short_to_wait_for(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = prompt(LEAST_COMMON - 1)
    passes = counted(model, monkeypatch)
    run(model, [[*common, 5, *prompt(9)], [*common, 6, *prompt(9)]], 1)
    assert passes[0] == [LEAST_COMMON + 9] * 2


def test_who_waits_goes_on_itself_when_the_other_is_cancelled(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch, alone: Any
) -> None:
    """With what the other has computed by then."""
    first, second = sequence_of(model, prompt(900), 3), sequence_of(model, prompt(900), 3)
    passes = counted(model, monkeypatch)
    compute = model.engine._compute

    def cancelling(shares: list[Share]) -> Any:
        answers = compute(shares)
        if len(passes) == 1:
            first.cancelled = True
        return answers

    monkeypatch.setattr(model.engine, "_compute", cancelling)
    model.engine.advance(first, second, to_end=True)
    assert first.finish_reason == "cancelled"
    assert second.tokens[900:] == alone(prompt(900), 3)
    assert passes[0] == [512]
    assert second.reused_tokens == 512
    assert sum(map(sum, passes)) == 900 + 2


def test_who_waits_goes_on_itself_when_the_others_thread_is_interrupted(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch, alone: Any
) -> None:
    engine, found = model.engine, list[list[int]]()
    compute, computing, may_end = engine._compute, threading.Event(), threading.Event()
    calls = [0]

    def interrupted(shares: list[Share]) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            computing.set()
            assert may_end.wait(PATIENCE)
            raise KeyboardInterrupt
        return compute(shares)

    monkeypatch.setattr(engine, "_compute", interrupted)

    def leads() -> None:
        with pytest.raises(KeyboardInterrupt):
            model.generate(prompt(600), max_tokens=4, return_result=True)

    def waits() -> None:
        result = model.generate(prompt(600), max_tokens=4, ignore_eos=True, return_result=True)
        found.append(result.ids)

    threads = [threading.Thread(target=leads), threading.Thread(target=waits)]
    threads[0].start()
    assert computing.wait(PATIENCE)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert found == [alone(prompt(600), 4)]
    assert engine._followers._followed == {}


def test_a_short_prompt_does_not_wait_until_a_long_one_with_its_beginning_has_room(
    path: Path, alone: Any
) -> None:
    with BitNetModel(path) as model:
        budget = 3 * model.engine.store.pool.layout.block_bytes
    with BitNetModel(path, n_threads=1, prefix_cache_bytes=budget) as model:
        lengths = (500, 700, 60, 700)
        prompts = [prompt(500), [*prompt(60), *prompt(640)], [*prompt(60)], [*prompt(700)]]
        sequences = run(model, prompts, 30)
        for sequence, tokens, length in zip(sequences, prompts, lengths, strict=True):
            assert len(tokens) == length
            assert sequence.error is None
            assert sequence.tokens[length:] == alone(tokens, 30)


@pytest.mark.parametrize("length", [60, 120, 300])
def test_blocks_of_a_pass_that_is_not_over_are_left_alone(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch, alone: Any, length: int
) -> None:
    """Newcomers are let in between its layers, while those that follow a member wait."""
    monkeypatch.setattr(decoder, "CALL_ROWS", 1)
    engine, shared, let_in = model.engine, list[bool](), list[bool]()
    share, come, schedule = engine.store.share, engine._let_in, engine._schedule
    cases = [prompt(700), prompt(700)[:length], prompt(700)[:length], prompt(700)[: length + 1]]
    sequences = [sequence_of(model, tokens, 3) for tokens in cases]
    decodes = sequence_of(model, prompt(20), 40)

    def arrive(*arriving: Sequence) -> None:
        for sequence in arriving:
            sequence.gate = decodes.gate
            engine._waiting[sequence] = None

    def scheduled() -> list[Share]:
        if decodes.new_tokens == 2:
            arrive(*sequences[:3])
        return schedule()

    def comes() -> None:
        arrive(sequences[3])
        let_in.append(any(map(engine._followers.waits, sequences)))
        come()

    def checked(sequence: Sequence) -> None:
        shared.append(sequence in engine._computing)
        share(sequence)

    monkeypatch.setattr(engine.store, "share", checked)
    monkeypatch.setattr(engine, "_let_in", comes)
    monkeypatch.setattr(engine, "_schedule", scheduled)
    engine.advance(decodes, to_end=True)
    engine.advance(*sequences, to_end=True)
    assert any(let_in)
    assert shared
    assert not any(shared)
    for sequence, tokens in zip(sequences, cases, strict=True):
        assert sequence.tokens[len(tokens) :] == alone(tokens, 3)


def test_threads_with_equal_prompts_get_what_each_would_get_alone(
    model: BitNetModel, alone: Any
) -> None:
    cases = [prompt(400)] * 4 + [[*prompt(400)[:300], *prompt(50)]] * 4 + [prompt(60)] * 4
    found: dict[int, list[int]] = {}

    def work(index: int) -> None:
        result = model.generate(cases[index], max_tokens=10, ignore_eos=True, return_result=True)
        found[index] = result.ids

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [found[index] for index in range(len(cases))] == [alone(tokens, 10) for tokens in cases]
    assert model.engine._followers._followed == {}
