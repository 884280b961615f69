"""`response_format`, `schema` and the like in chats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    IncompleteOutputError,
    InvalidParameterError,
    UnsupportedFeatureError,
)

needs_extra("structured", "llguidance")

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)
THINKING = TURNS.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
TOOLS = TURNS + "{{ tools }}"
TALE = [{"role": "user", "content": "Tell me a tale."}]
SCHEMA = {
    "type": "object",
    "properties": {"king": {"enum": ["old", "young"]}, "sons": {"enum": [1, 2, 3]}},
    "required": ["king", "sons"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "tale", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as model:
        yield model


def test_a_schema_in_the_form_of_openai(model: BitNetModel) -> None:
    for seed in range(6):
        options: dict[str, Any] = {"chat_template": TURNS, "seed": seed, "temperature": 1.5}
        answer = model.chat(TALE, response_format=FORMAT, **options)
        assert answer.finish_reason == "stop"
        assert answer.parsed == json.loads(answer.text)
        assert list(answer.parsed) == ["king", "sons"]
        assert model.chat(TALE, schema=SCHEMA, **options).text == answer.text
        with model.chat_stream(TALE, response_format=FORMAT, **options) as stream:
            assert "".join(map(str, stream)) == answer.text
        assert stream.result.parsed == answer.parsed


def test_any_object_and_any_text(model: BitNetModel) -> None:
    options: dict[str, Any] = {"chat_template": TURNS, "seed": 0, "max_tokens": 20}
    answer = model.chat(TALE, response_format={"type": "json_object"}, **options)
    assert answer.text.startswith("{")
    with pytest.raises(IncompleteOutputError, match="response_format"):
        _ = answer.parsed
    closed = {"type": "json_object", "schema": SCHEMA}
    assert set(model.chat(TALE, response_format=closed, **options).parsed) == {"king", "sons"}
    free = model.chat(TALE, response_format={"type": "text"}, **options)
    assert free.text == model.chat(TALE, **options).text
    assert free.parsed is None


def test_a_session_asks_for_a_form_of_one_answer(model: BitNetModel) -> None:
    chat = model.chat_session(chat_template=TURNS, seed=0, max_tokens=30)
    answer = chat.send("Who was the king?", choices=["The old one.", "The young one."])
    assert answer.parsed in ("The old one.", "The young one.")
    assert chat.messages[-1]["content"] == answer.text
    assert chat.send("And then?").parsed is None


def test_reasoning_that_the_prompt_begins_has_no_form(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a token of the demo model plays the part of `</think>`, which it does not have."""
    from ryzanstein_llm.chat.format import ChatFormat
    from ryzanstein_llm.text.reasoning import ReasoningParser

    options: dict[str, Any] = {"chat_template": THINKING, "seed": 1, "temperature": 1.0}
    with pytest.raises(UnsupportedFeatureError, match="end '</think>' is no token"):
        model.chat(TALE, schema=SCHEMA, **options)

    monkeypatch.setattr(ChatFormat, "reasoning_end", lambda self, prompt: ".")
    begin = ReasoningParser.__init__
    monkeypatch.setattr(
        ReasoningParser, "__init__", lambda self, tags, **which: begin(self, ("<", "."), **which)
    )
    for seed in range(4):
        answer = model.chat(TALE, schema=SCHEMA, **{**options, "seed": seed})
        assert answer.reasoning
        assert set(answer.parsed) == {"king", "sons"}
        assert answer.text == json.dumps(answer.parsed, separators=(",", ":"))


WRONG: list[tuple[Any, str]] = [
    ("json", "response_format must be a dict, not 'json'"),
    ({}, "response_format['type'] must be 'text', 'json_object' or 'json_schema', not None"),
    ({"type": "xml"}, "response_format['type'] must be"),
    ({"type": "json_schema"}, "response_format['json_schema']['schema'] must be a dict, not None"),
    ({"type": "json_object", "schema": []}, "response_format['schema'] must be a dict, not []"),
    ({"type": "json_object", "schema": {"type": "foo"}}, "response_format is not valid: Invalid"),
]


@pytest.mark.parametrize(("asked", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_wrong_formats(model: BitNetModel, asked: Any, problem: str) -> None:
    for call in (model.chat, model.chat_stream):
        with pytest.raises(InvalidParameterError) as caught:
            call(TALE, chat_template=TURNS, response_format=asked)
        assert problem in str(caught.value)


def test_one_form_at_a_time(model: BitNetModel) -> None:
    with pytest.raises(InvalidParameterError, match="response_format cannot be given together"):
        model.chat(TALE, chat_template=TURNS, response_format=FORMAT, regex="a")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(UnsupportedFeatureError, match="tools together with response_format"):
        model.chat(TALE, chat_template=TOOLS, response_format=FORMAT, tools=tools)
