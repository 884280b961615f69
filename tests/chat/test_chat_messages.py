"""Messages and tools are checked before any work, and errors name index, key and value."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from ryzanstein_llm.chat.messages import check_messages, check_tools, check_variables
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.text.tool_calls import MOST_NESTED, tool_call_parser

USER = {"role": "user", "content": "Hi"}


def call(**changes: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": '{"a": 1}', **changes.pop("function", {})}
    given = {"id": "x", "type": "function", "function": function, **changes}
    return {"role": "assistant", "content": None, "tool_calls": [given]}


def test_messages_are_copied_into_one_form() -> None:
    messages = [
        {
            "role": "system",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        call(),
        call(function={"arguments": {"a": 1}}),
        call(function={"arguments": ""}),
        {"role": "tool", "content": "3", "tool_call_id": "x", "name": None},
    ]
    before = copy.deepcopy(messages)
    found = check_messages(messages)
    assert messages == before
    assert found[0]["content"] == "a\nb"
    assert [m["tool_calls"][0]["function"]["arguments"] for m in found[1:4]] == [
        {"a": 1}, {"a": 1}, {},
    ]  # fmt: skip
    assert found[1]["content"] == ""
    assert found[4] == {"role": "tool", "content": "3", "tool_call_id": "x"}


def test_objects_like_those_of_pydantic_are_messages() -> None:
    class Message:
        def model_dump(self) -> dict[str, Any]:
            return {**USER, "refusal": None}

    assert check_messages([Message()]) == [USER]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ("Hi", "messages must be a list of messages, each with a role and a content, not 'Hi'"),
        (USER, "messages must be a list"),
        (None, "messages must be a list"),
        ([], "messages must hold at least one message"),
        ([USER, "Hi"], "messages[1] must be a dict, not 'Hi'"),
        ([{"content": "a"}], "messages[0] has no 'role'"),
        ([{"role": "usr", "content": "a"}], "messages[0]['role'] must be one of 'system', "),
        ([{"role": 3, "content": "a"}], "messages[0]['role'] must be one of"),
        ([{"role": "user"}], "messages[0] has no 'content'"),
        ([{"role": "user", "content": None}], "messages[0]['content'] must be a str or a list"),
        ([{"role": "user", "content": 3}], "messages[0]['content'] must be a str or a list"),
        ([{"role": "user", "content": ["a"]}], "messages[0]['content'][0] must be a dict, not 'a'"),
        ([{"role": "user", "content": [{"type": "image_url"}]}],
         "messages[0]['content'][0]['type'] must be one of 'text', not 'image_url'"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}],
         "messages[0]['content'][0]['text'] must be a str, not 3"),
        ([{"role": "user", "content": "a\ud800"}],
         "messages[0]['content'] is not valid Unicode: lone surrogate '\\ud800' at index 1"),
        ([{**USER, "name": 3}], "messages[0]['name'] must be a str, not 3"),
        ([{**USER, "extra": object}], "messages[0]['extra'] must be a value that JSON has, not"),
        ([{**USER, 3: "a"}], "a key of messages[0] must be a str, not 3"),
        ([{**call(), "tool_calls": {}}], "messages[0]['tool_calls'] must be a list of tool calls"),
        ([call(type="code")], "messages[0]['tool_calls'][0]['type'] must be one of 'function'"),
        ([call(function={"name": ""})],
         "messages[0]['tool_calls'][0]['function']['name'] must be a str, not ''"),
        ([call(function={"arguments": "{"})],
         "messages[0]['tool_calls'][0]['function']['arguments'] must be a JSON object, or a str "
         "that is one, not '{'"),
        ([call(function={"arguments": "[]"})], "must be a JSON object"),
        ([call(function={"arguments": r'{"a": "\ud800"}'})],
         "messages[0]['tool_calls'][0]['function']['arguments']['a'] is not valid Unicode"),
        ([call(function={"arguments": '{"a":' * 400 + "1" + "}" * 400})], "nested too deeply"),
        ([{**USER, "extra": {"\ud800": 1}}],
         "a key of messages[0]['extra'] is not valid Unicode: lone"),
        ([call(function={"arguments": r'{"\udfff": 1}'})], "is not valid Unicode"),
    ],
)  # fmt: skip
def test_wrong_messages(messages: Any, problem: str) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(problem)):
        check_messages(messages)


def test_values_nested_too_deeply_are_refused() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidParameterError, match="nested too deeply"):
        check_messages([{**USER, "extra": deep}])


def test_a_call_that_a_model_wrote_is_accepted_as_text_and_as_values() -> None:
    arguments = '{"a":' * (MOST_NESTED - 1) + "1" + "}" * (MOST_NESTED - 1)
    parser = tool_call_parser("[TOOL_CALLS]")
    found = [*parser.push("[TOOL_CALLS]f[ARGS]" + arguments), *parser.flush()]
    assert [each.name for each in found if not isinstance(each, str)] == ["f"]
    for given in (arguments, json.loads(arguments)):
        (message,) = check_messages([call(function={"arguments": given})])
        assert message["tool_calls"][0]["function"]["arguments"] == json.loads(arguments)


def test_tools_are_copied_into_one_form() -> None:
    tool = {"name": "f", "parameters": {"type": "object"}}
    assert check_tools([tool]) == [{"type": "function", "function": tool}]
    assert check_tools([{"type": "function", "function": tool}]) == check_tools([tool])
    assert check_tools(None) is None
    assert check_tools([]) is None


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ({}, "tools must be a list of tools"),
        ([3], "tools[0] must be a dict, not 3"),
        ([{"type": "function"}], "tools[0]['function'] must be a dict, not None"),
        ([{"type": "retrieval", "function": {}}], "tools[0]['type'] must be one of 'function'"),
        ([{"function": {"name": 3}}], "tools[0]['function']['name'] must be a str, not 3"),
        ([{"name": "f", "parameters": "x"}],
         "tools[0]['function']['parameters'] must be a JSON schema, not 'x'"),
        ([{"name": "f", "description": 3}], "tools[0]['function']['description'] must be a str"),
    ],
)  # fmt: skip
def test_wrong_tools(tools: Any, problem: str) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(problem)):
        check_tools(tools)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (3, "chat_template_kwargs must be a dict, not 3"),
        ({3: 4}, "a key of chat_template_kwargs must be a str, not 3"),
        (
            {"messages": []},
            "chat_template_kwargs cannot have 'messages', which has a value already",
        ),
        ({"a": object()}, "chat_template_kwargs['a'] must be a value that JSON has"),
    ],
)
def test_wrong_variables(values: Any, problem: str) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(problem)):
        check_variables(values)
