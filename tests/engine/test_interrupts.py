"""Ctrl-C at chosen moments: a request has its effect or none, and others get their texts."""

from __future__ import annotations

import inspect
import itertools
import sys
from types import FrameType
from typing import Any

import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.engine.engine import Engine
from ryzanstein_llm.generation import Generation, _Listener
from ryzanstein_llm.sampling import Sampler

PENALTIES: dict[str, Any] = {"temperature": 0.5, "frequency_penalty": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = write_small_model(tmp_path_factory.mktemp("small") / "model", tokenizer=True)
    with BitNetModel(directory, n_threads=1) as model:
        yield model


def ids_of(source: Any, tokens: list[int], new: int = 12, **options: Any) -> list[int]:
    result = source.generate(tokens, max_tokens=new, ignore_eos=True, return_result=True, **options)
    return list(result.ids)


def interrupting(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, times: int = 1) -> None:
    """Ctrl-C comes as a method ends, so many times."""
    method, left = getattr(owner, name), [times]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        value = method(*arguments, **options)
        if left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        return value

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("moment", [(Engine, "leave"), (Engine, "advance"), (Generation, "_begin")])
@pytest.mark.parametrize("times", [1, 2])
def test_a_session_is_as_before_and_can_be_used(model, monkeypatch, moment, times):
    """Also if a second Ctrl-C comes while the first is dealt with."""
    with model.session() as session:
        ids_of(session, prompt(5))
        before = session.tokens
        with monkeypatch.context() as patch:
            interrupting(patch, *moment, times)
            if moment == (Engine, "advance") and times == 2:
                interrupting(patch, Engine, "leave")
            with pytest.raises(KeyboardInterrupt):
                ids_of(session, [7, 8])
        assert session.tokens == before
        assert "idle" in repr(session)
        assert ids_of(session, [7, 8]) == ids_of(model, [*before, 7, 8])


@pytest.mark.parametrize("stop", [None, ["never"]])
def test_at_any_call_at_all_a_session_has_its_tokens_or_none(model, stop):
    """Python takes a signal where a function is called or returns, and nowhere else that is ours.
    Generators that begin to be closed are left out: Python runs none of their code then."""
    with model.session() as session:
        before = session.tokens
        expected = ids_of(session, prompt(5), 3, stop=stop)
        after = session.tokens
        interrupted = 0
        for place in itertools.count(0, 5):
            session.truncate(len(before))
            left = [place]

            def interrupt(frame: FrameType, event: str, _: object, left: list[int] = left) -> None:
                begins = event == "call" and not frame.f_code.co_flags & inspect.CO_GENERATOR
                if (begins or event[:2] == "c_") and frame.f_globals["__name__"] != __name__:
                    left[0] -= 1
                    if left[0] < 0:
                        sys.setprofile(None)
                        raise KeyboardInterrupt

            try:
                sys.setprofile(interrupt)
                ids_of(session, prompt(5), 3, stop=stop)
            except KeyboardInterrupt:
                interrupted += 1
                assert session.tokens == before
            else:
                break
            finally:
                sys.setprofile(None)
            assert ids_of(session, prompt(5), 3, stop=stop) == expected
            assert session.tokens == after
    assert interrupted > 50


def test_ctrl_c_between_the_last_token_and_the_result(model, monkeypatch):
    with model.session() as session:
        with monkeypatch.context() as patch:
            interrupting(patch, Generation, "_advance")
            with pytest.raises(KeyboardInterrupt):
                ids_of(session, prompt(5))
        assert session.tokens == []
        assert ids_of(session, prompt(5)) == ids_of(model, prompt(5))


def test_penalties_count_a_token_once_if_the_leader_is_interrupted(model, monkeypatch):
    """While it asks what somebody else's next choice needs."""
    expected = ids_of(model, prompt(9), 40, **PENALTIES)
    follow, interrupts = Sampler._follow, []

    def interrupted(self: Sampler, tokens: list[int], prompt_tokens: int) -> None:
        followed = self._followed
        follow(self, tokens, prompt_tokens)
        if len(tokens) == 10 and not interrupts:
            interrupts.append(True)
            self._followed = followed  # it came just before
            raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "_follow", interrupted)
    sequence = model.engine.sequence(prompt(9), Sampler(SamplingParams(**PENALTIES)), max_tokens=40)
    with pytest.raises(KeyboardInterrupt):
        model.engine.advance(sequence, to_end=True)
    model.engine.advance(sequence, to_end=True)
    assert sequence.tokens[9:] == expected


def test_no_token_comes_after_a_sequence_was_closed(model, monkeypatch):
    """Though whoever leads has it in its pass still: the text and the ids of a stream that is
    closed are of one moment."""
    engine = model.engine
    sequence = engine.sequence(prompt(9), Sampler(SamplingParams()), max_tokens=12)
    compute = engine._compute

    def closed_meanwhile(shares):
        answers = compute(shares)
        if sequence.new_tokens == 3:
            sequence.close()
            sequence.end_cancelled()
        return answers

    monkeypatch.setattr(engine, "_compute", closed_meanwhile)
    engine.advance(sequence, to_end=True)
    assert sequence.new_tokens == 3


def test_a_token_that_was_added_stays(model, monkeypatch):
    """Also if the leader is interrupted just after another thread could read the piece, and the
    stream is closed then."""
    stream, tokens, add_token = (
        model.stream(prompt(20), ignore_eos=True),
        list[int](),
        _Listener.add_token,
    )

    def interrupted(self: _Listener, token: int) -> bool:
        tokens.append(token)
        add_token(self, token)
        if len(tokens) > 3 and self.unread:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(_Listener, "add_token", interrupted)
    pieces = [next(stream)]
    engine, sequence = model.engine, stream._generation._sequence

    def leads() -> None:  # as any thread may
        while True:
            engine.advance(sequence, to_end=False)
            pieces.append(next(stream))

    with pytest.raises(KeyboardInterrupt):
        leads()
    pieces.append(next(stream))
    stream.close()
    assert stream.result.text == "".join(pieces)
    assert stream.result.ids == tokens


@pytest.mark.parametrize("which", ["all", "last"])
def test_a_cache_is_as_before_also_if_ctrl_c_comes_during_the_head(model, monkeypatch, which):
    cache = model.new_cache()
    model.forward(prompt(300), cache)
    expected = model.forward([*prompt(300), *prompt(9)])[-1].tobytes()
    with monkeypatch.context() as patch:
        interrupting(patch, type(model.graph), "logits")
        interrupting(patch, type(cache), "_drop")  # and once more
        with pytest.raises(KeyboardInterrupt):
            model.forward(prompt(9), cache, logits=which)
    assert len(cache) == 300
    assert model.forward(prompt(9), cache, logits=which)[-1].tobytes() == expected
