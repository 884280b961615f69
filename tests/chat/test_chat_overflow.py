"""Conversations that are longer than the context."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel, ChatResult
from ryzanstein_llm.errors import ContextOverflowError

needs_extra("chat", "jinja2")

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)
OPTIONS: dict[str, Any] = {"chat_template": TURNS, "temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1, context_length=128) as opened:
        yield opened


def conversation(turns: int, system: bool = True) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": "Tell tales."}] if system else []
    for number in range(turns):
        messages.append({"role": "user", "content": f"What did the fox say, number {number}?"})
        messages.append({"role": "assistant", "content": f"It said {number} words."})
    return [*messages, {"role": "user", "content": "And then?"}]


def fits(model: BitNetModel, messages: list[dict[str, str]], new: int) -> bool:
    """Whether all of the messages and an answer have room."""
    try:
        found = model.chat(messages, max_tokens=1, **OPTIONS)
    except ContextOverflowError:
        return False
    return found.generation.prompt_tokens + new <= model.context_length


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 4, 5, 6, 9, 40])
@pytest.mark.parametrize("new", [1, 20])
def test_the_oldest_turns_are_left_out_and_the_system_message_stays(model, system, turns, new):
    messages = conversation(turns, system)
    begin = int(system)
    found = model.chat(messages, max_tokens=new, overflow="truncate", **OPTIONS)
    count = found.dropped_messages
    assert count % 2 == 0
    kept = [*messages[:begin], *messages[begin + count :]]
    assert found.text == model.chat(kept, max_tokens=new, **OPTIONS).text
    assert found.generation.prompt_tokens + new <= model.context_length
    assert found.generation.dropped_tokens == 0
    if count:  # with one turn more, less than a quarter beside the answer would be free
        longer = [*messages[:begin], *messages[begin + count - 2 :]]
        assert not fits(model, longer, new + (model.context_length - new) // 4)
        assert not fits(model, messages, new)
    assert count > 0 if turns >= 9 else turns > 1 or not count


@pytest.mark.parametrize("overflow", ["truncate", "shift"])
@pytest.mark.parametrize("turns", [5, 9, 40])
def test_an_answer_without_a_limit_has_a_quarter_of_the_context(model, overflow, turns):
    messages = conversation(turns)
    options = {**OPTIONS, "overflow": overflow, "ignore_eos": True}
    limits = {"max_tokens": 200 if overflow == "shift" else None}
    found = model.chat(messages, **limits, **options)
    count, room = found.dropped_messages, model.context_length // 4
    assert count > 0
    assert found.generation.prompt_tokens + room <= model.context_length
    longer = [messages[0], *messages[count - 1 :]]
    assert not fits(model, longer, room + (model.context_length - room) // 4)
    assert not fits(model, messages, room)
    if overflow == "truncate":
        assert len(found.generation.ids) == model.context_length - found.generation.prompt_tokens
        assert found.finish_reason == "length"


@pytest.mark.parametrize("overflow", ["truncate", "shift"])
def test_a_last_turn_that_leaves_less_than_a_quarter_is_answered_alone(model, overflow):
    last = {"role": "user", "content": "a king and a fox " * 19}
    alone = model.chat([last], max_tokens=5, **OPTIONS)
    assert model.context_length - 32 < alone.generation.prompt_tokens < model.context_length - 5
    limits = {"max_tokens": 200 if overflow == "shift" else None, "overflow": overflow}
    found = model.chat([*conversation(1, False)[:-1], last], **limits, **OPTIONS)
    assert found.dropped_messages == 2
    assert found.generation.prompt_tokens == alone.generation.prompt_tokens


def test_without_it_the_conversation_is_refused(model):
    with pytest.raises(ContextOverflowError, match=r"the conversation is too long; .*truncate"):
        model.chat(conversation(40), **OPTIONS)


@pytest.mark.parametrize("overflow", ["truncate", "shift"])
def test_a_last_turn_that_is_too_long_is_refused(model, overflow):
    messages = [*conversation(3)[:-1], {"role": "user", "content": "a king and a fox " * 60}]
    with pytest.raises(ContextOverflowError):
        model.chat(messages, max_tokens=5, overflow=overflow, **OPTIONS)
    with pytest.raises(ContextOverflowError):
        model.chat(messages[-1:], max_tokens=5, overflow=overflow, **OPTIONS)


def test_max_tokens_that_leave_no_room_for_the_last_turn_are_named(model):
    messages = conversation(3)
    with pytest.raises(ContextOverflowError) as caught:
        model.chat(messages, max_tokens=10**6, overflow="truncate", **OPTIONS)
    assert "max_tokens=1000000; lower max_tokens to " in str(caught.value)
    most = int(str(caught.value).split("lower max_tokens to ")[1].split()[0])
    assert model.chat(messages, max_tokens=most, overflow="truncate", **OPTIONS).usage
    with pytest.raises(ContextOverflowError, match=f"lower max_tokens to {most} or less"):
        model.chat(messages, max_tokens=most + 1, overflow="truncate", **OPTIONS)
    long = [{"role": "user", "content": "a king and a fox " * 60}]
    with pytest.raises(ContextOverflowError) as caught:
        model.chat(long, max_tokens=5, overflow="truncate", **OPTIONS)
    assert "max_tokens" not in str(caught.value)


def test_an_answer_may_be_longer_than_the_context(model):
    found = model.chat(
        conversation(9), max_tokens=200, ignore_eos=True, overflow="shift", **OPTIONS
    )
    assert len(found.generation.ids) == 200
    assert found.dropped_messages > 0
    assert found.generation.dropped_tokens > 100


def test_a_session_keeps_its_messages_and_leaves_out_the_oldest_ones(model):
    chat = model.chat_session("Tell tales.", max_tokens=12, overflow="truncate", **OPTIONS)
    for number in range(12):
        said = [*chat.messages, {"role": "user", "content": f"And then, number {number}?"}]
        found = chat.send(f"And then, number {number}?")
        assert len(chat.messages) == len(said) + 1
        assert found.generation.prompt_tokens + 12 <= model.context_length
    assert found.dropped_messages >= 10
    plain = model.chat_session("Tell tales.", max_tokens=12, **OPTIONS)
    for number in range(3):
        plain.send(f"And then, number {number}?")
    with pytest.raises(ContextOverflowError):
        plain.send("And then? " * 60)
    assert len(plain.messages) == 7


QUESTIONS = [f"And then, number {number}?" for number in range(30)]


def answers_of_a_session(model: BitNetModel, **options: Any) -> Iterator[tuple[Any, ChatResult]]:
    """(the conversation before each answer, the answer)."""
    chat = model.chat_session("Tell tales.", **options)
    for question in QUESTIONS:
        result = chat.send(question)
        yield chat.messages[:-1], result


def answers_without_a_session(
    model: BitNetModel, **options: Any
) -> Iterator[tuple[Any, ChatResult]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Tell tales."}]
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        result = model.chat(messages, **options)
        yield list(messages), result
        messages.append(result.message)


@pytest.mark.parametrize(
    ("answers", "cuts"), [(answers_of_a_session, 8), (answers_without_a_session, 12)]
)
def test_most_prompts_of_a_long_conversation_begin_with_the_same_turn(answers, cuts):
    """About seven turns fit. With as few left out as possible, 23 of the 30 prompts begin anew."""
    options = {**OPTIONS, "max_tokens": 12, "overflow": "truncate"}
    before, anew = 0, 0
    with BitNetModel(n_threads=1, context_length=256) as model:
        found = list(answers(model, **options))
        for _, result in found:
            new = (
                result.usage["prompt_tokens"]
                - result.usage["prompt_tokens_details"]["cached_tokens"]
            )
            assert result.dropped_messages >= before
            if result.dropped_messages > before:
                anew += 1
            elif result is not found[0][1]:
                assert new < 24  # the question, and what stands around it
            before = result.dropped_messages
        assert before > 40
        assert anew <= cuts
    del options["overflow"]
    with BitNetModel(n_threads=1, context_length=256) as model:
        for messages, result in found:
            kept = [messages[0], *messages[1 + result.dropped_messages :]]
            assert model.chat(kept, **options).generation.ids == result.generation.ids


def test_a_session_leaves_out_what_its_last_prompt_left_out(model):
    chat = model.chat_session("Tell tales.", max_tokens=12, **OPTIONS, overflow="truncate")
    while not (first := chat.send("And then, little fox?")).dropped_messages:
        pass
    count = first.dropped_messages
    again = chat.retry(max_tokens=1)  # all turns would have room now
    assert again.dropped_messages == count
    assert again.generation.prompt_tokens == first.generation.prompt_tokens
    messages = chat.messages
    with pytest.raises(ContextOverflowError):
        chat.send("And then? " * 60)
    with pytest.raises(ContextOverflowError):
        chat.retry()
    assert chat.messages == messages
    assert chat.send("And?", max_tokens=1).dropped_messages == count


def test_a_conversation_that_is_loaded_has_all_its_turns(model, tmp_path):
    chat = model.chat_session("Tell tales.", max_tokens=12, overflow="truncate", **OPTIONS)
    chat.send("Once")
    chat.save(tmp_path / "short.json")
    while not chat.send("And then, little fox?").dropped_messages:
        pass
    chat.load(tmp_path / "short.json")
    assert chat.send("And then?").dropped_messages == 0


def test_streams_and_tasks_leave_out_the_same(model):
    messages = conversation(9)
    options = {**OPTIONS, "max_tokens": 10, "overflow": "truncate"}
    expected = model.chat(messages, **options)
    assert "".join(map(str, model.chat_stream(messages, **options))) == expected.text
    again = asyncio.run(model.achat(messages, **options))
    assert (again.text, again.dropped_messages) == (expected.text, expected.dropped_messages)
