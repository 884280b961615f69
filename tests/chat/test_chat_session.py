"""A conversation that goes on."""

from __future__ import annotations

import gc
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel, ChatSession, ChatStream
from ryzanstein_llm.errors import (
    ContextOverflowError,
    FormatError,
    InvalidParameterError,
    SessionBusyError,
    SessionNotFoundError,
)

needs_extra("chat", "jinja2")

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as opened:
        yield opened


@pytest.fixture
def session(model: BitNetModel) -> ChatSession:
    return model.chat_session("Tell tales.", chat_template=TURNS, max_tokens=20, seed=1)


def test_what_was_said_is_remembered(model: BitNetModel, session: ChatSession) -> None:
    first = session.send("Once upon a time")
    second = session.send("And then?", seed=2)
    assert [message["role"] for message in session.messages] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert session.messages[2]["content"] == first.text
    assert session.messages[4] == second.message


def test_the_first_answer_is_that_of_chat(model: BitNetModel, session: ChatSession) -> None:
    result = session.send("Once upon a time")
    said = session.messages[:2]
    assert result.text == model.chat(said, chat_template=TURNS, max_tokens=20, seed=1).text


def test_only_what_is_new_is_computed(model: BitNetModel) -> None:
    """All tokens of the conversation so far, those of the answer too, are in the cache. The last
    token of an answer has no keys yet: it was chosen and not computed."""
    session = model.chat_session("Be brief.", chat_template=TURNS, max_tokens=25)
    before = 0
    for seed, text in enumerate(("Who was the king?", "And the fox?", "Why?")):
        run = session.send(text, seed=seed).generation
        if before:
            assert run.reused_tokens >= before - 1
        before = run.prompt_tokens + len(run.ids)


def test_the_models_own_tokens_are_kept_however_it_spells(model: BitNetModel) -> None:
    """Sampling at a high temperature spells words as the tokenizer never would."""
    session = model.chat_session(chat_template=TURNS, max_tokens=40, temperature=3.0, min_p=0.0)
    first = session.send("Once", seed=5)
    ids = first.generation.ids
    assert model.tokenize(model.detokenize(ids), add_special_tokens=False) != ids
    second = session.send("Go on", seed=6).generation
    assert second.reused_tokens >= first.generation.prompt_tokens + len(ids) - 1


def test_a_stream_adds_its_answer_at_its_end(session: ChatSession) -> None:
    stream = session.stream("Once upon a time")
    assert len(session.messages) == 1
    text = "".join(str(delta) for delta in stream)
    assert session.messages[1:] == [
        {"role": "user", "content": "Once upon a time"},
        {"role": "assistant", "content": text},
    ]


def test_a_stream_that_is_closed_leaves_what_it_has(session: ChatSession) -> None:
    with session.stream("Once upon a time") as stream:
        next(stream)
    assert session.messages[-1]["content"] == stream.result.text != ""
    assert stream.result.finish_reason == "cancelled"
    dropped = session.stream("And then?")
    next(dropped)
    del dropped
    gc.collect()
    assert len(session.messages) == 5


def test_a_stream_that_has_not_begun_leaves_nothing(session: ChatSession) -> None:
    session.stream("Once upon a time").close()
    stream = session.stream("Once upon a time")
    stream.cancel()
    assert list(stream) == []
    assert len(session.messages) == 1


def stop_before_an_answer(stream: ChatStream) -> None:
    """As Ctrl-C does while the prompt is being read."""
    stream._request.generation.begin()
    stream.cancel()
    assert list(stream) == []
    assert (stream.result.finish_reason, stream.result.generation.ids) == ("cancelled", [])
    assert stream.result.generation.prompt_tokens > 0


def test_what_was_stopped_before_an_answer_is_asked_again(session: ChatSession) -> None:
    session.send("Once upon a time")
    said, question = session.messages, {"role": "user", "content": "Why?"}
    assert session.unanswered == []
    stop_before_an_answer(session.stream("Why?"))
    assert (session.messages, session.unanswered) == (said, [question])
    stop_before_an_answer(session.stream_retry())
    assert (session.messages, session.unanswered) == (said, [question])
    answer = session.retry(seed=7)
    assert session.messages == [*said, question, answer.message]
    assert session.unanswered == []
    stop_before_an_answer(session.stream_retry())
    assert session.messages == [*said, question, answer.message]
    other = session.retry(seed=8)
    assert session.messages == [*said, question, other.message]


def test_the_first_question_can_be_asked_again(session: ChatSession) -> None:
    stop_before_an_answer(session.stream("Once upon a time"))
    session.retry()
    assert [each["role"] for each in session.messages] == ["system", "user", "assistant"]


def test_a_stream_that_was_closed_before_it_began_can_be_asked_again(session: ChatSession) -> None:
    session.stream("Once upon a time").close()
    session.retry()
    assert session.messages[1]["content"] == "Once upon a time"


def test_a_question_that_failed_can_be_asked_again(session: ChatSession) -> None:
    session.send("Once upon a time")
    before = session.messages

    def fail(tokens: object, logits: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.send("Why?", logits_processor=fail)
    with pytest.raises(ContextOverflowError):
        session.send("tale " * 600)
    assert session.messages == before
    assert session.unanswered == [{"role": "user", "content": "tale " * 600}]
    with pytest.raises(ContextOverflowError):
        session.retry()
    with pytest.raises(InvalidParameterError, match="is no option"):
        session.send("How?", max_token=3)  # type: ignore[call-arg]
    session.retry()
    assert [each["content"] for each in session.messages[3:4]] == ["How?"]


def test_a_new_message_or_another_conversation_forgets_what_is_unanswered(
    session: ChatSession, tmp_path: Path
) -> None:
    session.send("Once upon a time")
    session.save(tmp_path / "chat.json")
    stop_before_an_answer(session.stream("Why?"))
    session.send("How?")
    said = [each["content"] for each in session.messages if each["role"] == "user"]
    assert (said, session.unanswered) == (["Once upon a time", "How?"], [])
    stop_before_an_answer(session.stream("Why?"))
    session.load(tmp_path / "chat.json")
    assert session.unanswered == []
    session.retry()
    assert len(session.messages) == 3


def test_cancel_ends_the_running_answer(session: ChatSession) -> None:
    session.cancel()  # nothing runs
    stream = session.stream("Once upon a time", max_tokens=400)
    next(stream)
    session.cancel()
    assert len(list(stream)) <= 1
    assert stream.result.finish_reason == "cancelled"
    assert session.messages[-1]["role"] == "assistant"
    session.send("Go on")


def test_retry_replaces_the_last_answer(session: ChatSession) -> None:
    with pytest.raises(InvalidParameterError, match="no answer yet"):
        session.retry()
    first = session.send("Once upon a time")
    again = session.retry()
    other = session.retry(seed=99)
    assert first.text == again.text != other.text
    assert session.messages[2:] == [other.message]
    assert len(session.messages) == 3


def test_retry_replaces_only_the_last_answer(model: BitNetModel, session: ChatSession) -> None:
    session.send("Once upon a time")
    session.send({"role": "assistant", "content": "And this is mine."})
    before = session.messages
    other = session.retry(seed=99)
    assert session.messages == [*before[:-1], other.message]
    given = model.chat_session(messages=before, chat_template=TURNS, max_tokens=20, seed=99)
    assert given.retry().text == other.text
    assert given.messages == session.messages


def test_a_conversation_that_ends_without_an_answer_is_answered(
    model: BitNetModel, session: ChatSession, tmp_path: Path
) -> None:
    said = [*session.messages, {"role": "user", "content": "Once upon a time"}]
    given = model.chat_session(messages=said, chat_template=TURNS, max_tokens=20, seed=1)
    given.save(tmp_path / "chat.json")
    answer = given.retry()
    assert answer.text == session.send("Once upon a time").text
    session.load(tmp_path / "chat.json")
    assert session.unanswered == []
    assert session.retry().text == answer.text
    assert session.messages == [*said, answer.message] == given.messages
    for nothing in ([], [{"role": "assistant", "content": "Hm."}]):
        other = model.chat_session(messages=nothing, chat_template=TURNS)
        with pytest.raises(InvalidParameterError, match="no answer yet"):
            other.retry()
        assert other.messages == nothing


def test_what_is_no_path_is_refused(session: ChatSession) -> None:
    for use in (session.save, session.load):
        for path in (3, None, b"chat.json"):
            with pytest.raises(InvalidParameterError, match="path must be a path, not"):
                use(path)  # type: ignore[arg-type]
    for name in ("a\0b", "\ud800", "x" * 300):
        with pytest.raises(SessionNotFoundError):
            session.load(name)
    assert len(session.messages) == 1


def test_results_of_tools_can_be_sent(session: ChatSession) -> None:
    session.send([{"role": "tool", "content": "3"}, {"role": "user", "content": "So?"}])
    session.send({"role": "user", "content": "Well?"})
    assert [each["role"] for each in session.messages[1:]] == [
        "tool", "user", "assistant", "user", "assistant",
    ]  # fmt: skip


def test_a_failed_question_leaves_the_conversation(session: ChatSession) -> None:
    session.send("Once upon a time")
    before = session.messages
    with pytest.raises(ContextOverflowError):
        session.send("tale " * 600)
    with pytest.raises(InvalidParameterError, match=r"message\[0\]\['role'\]"):
        session.send({"role": "usr", "content": "a"})
    with pytest.raises(InvalidParameterError, match="is no option"):
        session.send("a", max_token=3)  # type: ignore[call-arg]
    assert session.messages == before
    session.send("Go on")


def test_one_answer_at_a_time(session: ChatSession) -> None:
    stream = session.stream("Once upon a time")
    next(stream)
    for use in (lambda: session.send("a"), lambda: session.stream("a"), session.retry,
                lambda: session.load("x")):  # fmt: skip
        with pytest.raises(SessionBusyError):
            use()
    assert "answering" in repr(session)
    stream.close()
    assert "3 messages, idle" in repr(session)


def test_threads_cannot_both_answer(model: BitNetModel, session: ChatSession) -> None:
    refused = []

    def ask() -> None:
        try:
            session.send("Once upon a time", max_tokens=60)
        except SessionBusyError:
            refused.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(session.messages) == 1 + 2 * (4 - len(refused))


def test_messages_cannot_be_changed_from_outside(session: ChatSession) -> None:
    session.messages.append({"role": "user", "content": "x"})
    session.messages[0]["content"] = "x"
    assert session.messages == [{"role": "system", "content": "Tell tales."}]


def test_save_and_load(model: BitNetModel, session: ChatSession, tmp_path: Path) -> None:
    session.send("Grüße")
    path = tmp_path / "chat.json"
    session.save(path)
    session.save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"messages": session.messages}
    assert "Grüße" in path.read_text(encoding="utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["chat.json"]
    path.chmod(0o600)
    session.save(path)
    assert os.name != "posix" or path.stat().st_mode & 0o077 == 0
    other = model.chat_session(chat_template=TURNS, max_tokens=20, seed=1)
    other.load(path)
    assert other.messages == session.messages
    assert other.send("Go on").text == session.send("Go on").text
    empty = model.chat_session(chat_template=TURNS)
    empty.save(path)
    other.load(path)
    assert other.messages == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "expected a JSON object"),
        ("{}", "messages must be a list"),
        ('{"text": "The fox"}', "a text, not a conversation; .* without chat template"),
        ('{"messages": [{"role": "x", "content": ""}]}', r"messages\[0\]\['role'\]"),
        ("not", "not valid JSON"),
    ],
)
def test_a_file_that_is_no_conversation(
    session: ChatSession, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "chat.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=problem):
        session.load(path)
    with pytest.raises(SessionNotFoundError, match=r"nothing\.json: No such file") as caught:
        session.load(tmp_path / "nothing.json")
    assert isinstance(caught.value, FileNotFoundError)
    assert len(session.messages) == 1


def test_a_session_cannot_be_pickled(session: ChatSession) -> None:
    with pytest.raises(TypeError, match="save its messages"):
        pickle.dumps(session)


def test_wrong_options_are_refused_when_the_session_is_made(model: BitNetModel) -> None:
    with pytest.raises(InvalidParameterError, match="temperature"):
        model.chat_session(chat_template=TURNS, temperature=-1)
    with pytest.raises(InvalidParameterError, match=r"messages\[0\]\['content'\]"):
        model.chat_session(3, chat_template=TURNS)  # type: ignore[arg-type]
