"""`response_format`, `schema` and the like in chats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    IncompleteOutputError,
    InvalidParameterError,
    UnsupportedFeatureError,
)
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.sampling import Sampler
from ryzanstein_llm.structured import OutputFormat
from ryzanstein_llm.structured.constraint import GrammarConstraint

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


# ---- beside tools ----------------------------------------------------------------------------

TOOL = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "}<"}}\n</tool_call>'


def scripted(model: BitNetModel, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The model chooses what the tokenizer makes of this text. Each token must be allowed."""
    eos = model.eos_ids[0]
    wanted = [*model.tokenize(text, add_special_tokens=False), eos]
    masks: list[Any] = []
    allowed = GrammarConstraint.allowed

    def noted(self: GrammarConstraint) -> Any:
        masks.append(allowed(self))
        return masks[-1]

    def choose(self: Sampler, candidates: Candidates, index: int) -> int:
        token = wanted[index] if index < len(wanted) else eos
        assert masks[-1] is None or masks[-1][token]
        return token

    monkeypatch.setattr(GrammarConstraint, "allowed", noted)
    monkeypatch.setattr(Sampler, "choose", choose)


def test_with_tools_an_answer_has_the_form(model: BitNetModel) -> None:
    answers = 0
    for seed in range(6):
        options: dict[str, Any] = {"chat_template": TOOLS, "seed": seed, "temperature": 1.5}
        for asked in ({"response_format": FORMAT}, {"schema": SCHEMA, "logprobs": 1}):
            answer = model.chat(TALE, tools=TOOL, max_tokens=60, **asked, **options)
            if answer.text.startswith("<tool_call>"):  # at this temperature anything can come
                continue
            answers += 1
            assert answer.finish_reason == "stop"
            assert list(answer.parsed) == ["king", "sons"]
            assert not answer.tool_calls
    assert answers >= 6


@pytest.mark.parametrize("template", [TOOLS, TOOLS + "{# [TOOL_CALLS] #}"])
def test_or_the_model_calls_a_tool(
    model: BitNetModel, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = CALL if template == TOOLS else '[TOOL_CALLS][{"name": "f", "arguments": {"a": "}<"}}]'
    scripted(model, monkeypatch, call)
    options: dict[str, Any] = {"chat_template": template, "tools": TOOL, "response_format": FORMAT}
    answer = model.chat(TALE, **options)
    assert [each["function"]["name"] for each in answer.tool_calls] == ["f"]
    assert json.loads(answer.tool_calls[0]["function"]["arguments"]) == {"a": "}<"}
    assert (answer.finish_reason, answer.text, answer.parsed) == ("tool_calls", "", None)
    with pytest.raises(IncompleteOutputError):
        _ = answer.generation.parsed  # this text is no answer
    with model.chat_stream(TALE, **options) as stream:
        deltas = list(stream)
    assert [each for delta in deltas for each in delta.tool_calls] == answer.tool_calls
    assert "".join(map(str, deltas)) == ""
    found = model.create_chat_completion(
        TALE, chat_template=template, tools=TOOL, response_format=FORMAT
    )
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    session = model.chat_session(chat_template=template, tools=TOOL)
    assert session.send("And?", schema=SCHEMA).tool_calls[0]["function"]["name"] == "f"


def test_the_tag_of_a_call_is_forced_and_what_follows_is_free(model: BitNetModel) -> None:
    (less,) = model.tokenize("<", add_special_tokens=False)
    options: dict[str, Any] = {"chat_template": TOOLS, "tools": TOOL, "max_tokens": 12}
    answer = model.chat(TALE, response_format=FORMAT, logit_bias={less: 100}, **options)
    assert answer.text == "<tool_call>" + 5 * "<"
    assert answer.generation.forced_tokens == 6
    with pytest.raises(IncompleteOutputError):
        _ = answer.parsed
    banned = model.chat(TALE, response_format=FORMAT, logit_bias={less: -100}, **options)
    assert banned.text.startswith("{")


def test_a_form_may_begin_like_a_call(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"chat_template": TOOLS, "tools": TOOL, "choices": ["<tool>", "<t>"]}
    for text in ("<tool>", "<t>"):
        scripted(model, monkeypatch, text)
        assert model.chat(TALE, **options).parsed == text
    scripted(model, monkeypatch, CALL)
    assert len(model.chat(TALE, **options).tool_calls) == 1


def test_a_call_within_an_answer_is_text(model: BitNetModel) -> None:
    schema = {"const": {"said": CALL}}
    answer = model.chat(TALE, chat_template=TOOLS, tools=TOOL, schema=schema, temperature=0)
    assert answer.parsed == {"said": CALL}
    assert not answer.tool_calls


def test_a_call_after_the_reasoning(model: BitNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that ends the reasoning must be one token: see test_reasoning_is_free."""
    format = model._chat_format(THINKING + "{{ tools }}", tools=True)
    form = replace(OutputFormat.from_schema("schema", SCHEMA), after=",", unless="<tool_call>")
    constraint = form.constraint(format.vocabulary)
    thought, tag = (
        model.tokenize(each, add_special_tokens=False) for each in ("Hm <tool_call>", "<tool_call>")
    )
    comma = model.tokenize(",", add_special_tokens=False)
    constraint.follow(thought, 0)
    assert constraint.allowed() is None
    constraint.follow([*thought, *comma], 0)
    allowed = constraint.allowed()
    assert allowed is not None
    assert allowed[tag[0]]
    assert np.count_nonzero(allowed) < 8
    for end in range(1, len(tag)):
        constraint.follow([*thought, *comma, *tag[:end]], 0)
        assert constraint.forced() == tag[end]
    constraint.follow([*thought, *comma, *tag], 0)
    assert constraint.allowed() is None
    assert constraint.forced() is None
    assert not constraint.finished


def test_calls_without_a_tag_cannot_be_told_from_an_answer(model: BitNetModel) -> None:
    template = TOOLS + "{# <|python_tag|> #}"
    with pytest.raises(UnsupportedFeatureError, match="tools together with response_format"):
        model.chat(TALE, chat_template=template, response_format=FORMAT, tools=TOOL)
    with pytest.raises(UnsupportedFeatureError, match="JSON without a tag"):
        model.chat_stream(TALE, chat_template=template, regex="a", tools=TOOL)
