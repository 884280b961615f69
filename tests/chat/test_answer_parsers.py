"""Reasoning and tool calls are taken out of a text, in the same way however it is cut."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ryzanstein_llm.chat.answer import AnswerParser
from ryzanstein_llm.text.held_back import undecided
from ryzanstein_llm.text.reasoning import ReasoningParser, reasoning_tags
from ryzanstein_llm.text.tool_calls import (
    CallsInstead,
    ToolCallText,
    _Tagged,
    tool_call_parser,
    tool_call_tag,
)

QWEN, LLAMA, MISTRAL = "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]"

CALL = ToolCallText("f", {"a": 1})
OTHER = ToolCallText("g", {})


def cuts(text: str, seed: int) -> list[str]:
    """All at once, each character alone, or at random places."""
    if seed == 0:
        return [text]
    if seed == 1:
        return list(text)
    draw = random.Random(seed)
    places = sorted(draw.choices(range(len(text) + 1), k=len(text) // 3))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def reasoned(text: str, seed: int, **options: Any) -> tuple[str, str]:
    parser = ReasoningParser(**options)
    found = [parser.push(piece) for piece in cuts(text, seed)]
    found.append(parser.flush())
    return "".join(r for r, _ in found), "".join(a for _, a in found)


REASONED = [
    ("<think>\nhm\n</think>\n\nyes", False, ("hm", "yes")),
    ("  <think>a</think>b", False, ("a", "b")),
    ("<think>\n\n</think>\n\nyes", False, ("", "yes")),
    ("yes <think>no</think>", False, ("", "yes <think>no</think>")),
    ("<thin", False, ("", "<thin")),
    ("  yes", False, ("", "  yes")),
    ("hm\n\nhm\n</think>\nyes\n", True, ("hm\n\nhm", "yes\n")),
    ("never ends\n", True, ("never ends", "")),
    ("a </think b", True, ("a </think b", "")),
    ("a </th", True, ("a </th", "")),
    ("", True, ("", "")),
    ("", False, ("", "")),
    ("<think>a</think>b</think>c", False, ("a", "b</think>c")),
]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("text", "open", "expected"), REASONED)
def test_reasoning(text: str, open: bool, expected: tuple[str, str], seed: int) -> None:
    assert reasoned(text, seed, open=open) == expected


def test_no_piece_holds_a_part_of_a_tag() -> None:
    parser = ReasoningParser(open=True)
    assert [parser.push(piece) for piece in ("a<", "/th", "ink>", "b<")] == [
        ("a", ""), ("", ""), ("", ""), ("", "b<"),
    ]  # fmt: skip


def test_the_template_says_how_reasoning_is_marked() -> None:
    assert reasoning_tags("a '[/THINK]' b") == ("[THINK]", "[/THINK]")
    assert reasoning_tags("nothing") == ("<think>", "</think>")
    assert reasoned("[THINK]a[/THINK]b", 1, tags=("[THINK]", "[/THINK]")) == ("a", "b")


def called(
    text: str, template: str, seed: int, names: frozenset[str] | None = None
) -> list[str | ToolCallText]:
    """Texts beside each other are joined."""
    parser = tool_call_parser(template, names)
    joined: list[str | ToolCallText] = []
    found = [each for piece in cuts(text, seed) for each in parser.push(piece)] + parser.flush()
    for each in found:
        if isinstance(each, str) and joined and isinstance(joined[-1], str):
            joined[-1] += each
        elif each:
            joined.append(each)
    return joined


ONE = '{"name": "f", "arguments": {"a": 1}}'
TWO = '{"name": "g", "arguments": {}}'
TRICKY = '{"name": "f", "arguments": {"t": "</tool_call>\\" \\\\"}}'

CALLED = [
    (QWEN, f"<tool_call>\n{ONE}\n</tool_call>", [CALL]),
    (QWEN, f"Yes. \n<tool_call>{ONE}</tool_call>\n<tool_call>{TWO}</tool_call>\n",
     ["Yes.", CALL, OTHER]),
    (QWEN, f"<tool_call>{ONE}</tool_call> and ", [CALL, "and "]),
    (QWEN, f"<tool_call>{TRICKY}</tool_call>",
     [ToolCallText("f", {"t": '</tool_call>" \\'})]),
    (QWEN, "a <tool_call>{broken</tool_call> b", ["a <tool_call>{broken</tool_call> b"]),
    (QWEN, f"<tool_call>[]</tool_call><tool_call>{ONE}</tool_call>",
     ["<tool_call>[]</tool_call>", CALL]),
    (QWEN, f"<tool_call>{ONE} {TWO}</tool_call>", [f"<tool_call>{ONE} {TWO}</tool_call>"]),
    (QWEN, '<tool_call>{"name": 3}</tool_call>', ['<tool_call>{"name": 3}</tool_call>']),
    (QWEN, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [CALL]),
    (QWEN, '<tool_call>{"name": "f", "arguments": NaN}</tool_call>',
     ['<tool_call>{"name": "f", "arguments": NaN}</tool_call>']),
    (QWEN, f"<tool_call>{ONE}", [CALL]),
    (QWEN, "<tool_call>{\"name\": \"f\", ", ["<tool_call>{\"name\": \"f\", "]),
    (QWEN, "a <tool_c \n", ["a <tool_c \n"]),
    (QWEN, "only text \n\n", ["only text \n\n"]),
    (QWEN, ONE, [ONE]),
    (QWEN, "", []),
    (LLAMA, '{"name": "f", "parameters": {"a": 1}}', [CALL]),
    (LLAMA, f"<|python_tag|>{ONE}; {TWO}", [CALL, OTHER]),
    (LLAMA, f" {ONE}\n{TWO} ", [CALL, OTHER]),
    (LLAMA, f"{ONE} is a call", [f"{ONE} is a call"]),
    (LLAMA, f"This is {ONE}", [f"This is {ONE}"]),
    (LLAMA, '{"a": 1}', ['{"a": 1}']),
    (LLAMA, "{not JSON", ["{not JSON"]),
    (LLAMA, "text <b> \n", ["text <b> \n"]),
    (LLAMA, "<|python_tag|>print(1)", ["<|python_tag|>print(1)"]),
    (LLAMA, "<|py", ["<|py"]),
    (LLAMA, f"Wait. <|python_tag|>{ONE}", ["Wait.", CALL]),
    (MISTRAL, f"[TOOL_CALLS][{ONE}, {TWO}]", [CALL, OTHER]),
    (MISTRAL, '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', [CALL, OTHER]),
    (MISTRAL, '[TOOL_CALLS]f{"a": 1}', [CALL]),
    (MISTRAL, f"Hm [TOOL_CALLS] [{ONE}]", ["Hm", CALL]),
    (MISTRAL, f"[{ONE}]", [f"[{ONE}]"]),
    (MISTRAL, "[TOOL_CALLS][]", ["[TOOL_CALLS][]"]),
    (MISTRAL, "[TOOL_ and [ ", ["[TOOL_ and [ "]),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("template", "text", "expected"), CALLED)
def test_tool_calls(template: str, text: str, expected: list[Any], seed: int) -> None:
    assert called(text, template, seed) == expected


NAMES = frozenset({"f", "g"})
BOB = '{"name": "Bob"}'

NAMED = [
    (LLAMA, BOB, [BOB]),
    (LLAMA, f" {BOB}\n", [f" {BOB}\n"]),
    (LLAMA, ONE, [CALL]),
    (LLAMA, f"{ONE}; {TWO}", [CALL, OTHER]),
    (LLAMA, f"{ONE}; {BOB}", [f"{ONE}; {BOB}"]),
    # with a tag, it is meant as a call
    (LLAMA, f"<|python_tag|>{BOB}", [ToolCallText("Bob", {})]),
    (QWEN, f"<tool_call>{BOB}</tool_call>", [ToolCallText("Bob", {})]),
    (MISTRAL, f"[TOOL_CALLS][{BOB}]", [ToolCallText("Bob", {})]),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("template", "text", "expected"), NAMED)
def test_without_a_tag_only_what_names_a_tool_is_a_call(
    template: str, text: str, expected: list[Any], seed: int
) -> None:
    assert called(text, template, seed, NAMES) == expected


@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1e400]", "Infinity", "NaN"])
def test_a_number_that_json_cannot_say_again_makes_a_text(number: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": {number}}}}}</tool_call>'
    assert called(text, QWEN, 0) == [text]


@pytest.mark.parametrize(
    ("inside", "name", "arguments"),
    [
        (r'{"name": "f", "arguments": {"a": "x\ud800y"}}', "f", '{"a": "x\ufffdy"}'),
        (r'{"name": "f", "arguments": {"\udfff": 1}}', "f", '{"\ufffd": 1}'),
        (r'{"name": "f\ud83d", "arguments": {}}', "f\ufffd", "{}"),
        (r'{"name": "f", "arguments": {"a": "\ud83d\ude00"}}', "f", '{"a": "\U0001f600"}'),
        (r'{"name": "f", "arguments": "{\"a\": \"\\ud800\"}"}', "f", '{"a": "\ufffd"}'),
    ],
)
def test_a_lone_surrogate_in_a_call_becomes_a_replacement_character(
    inside: str, name: str, arguments: str
) -> None:
    parser = AnswerParser(ReasoningParser(), tool_call_parser(QWEN))
    (call,) = parser.push(f"<tool_call>{inside}</tool_call>").tool_calls
    assert call["function"] == {"name": name, "arguments": arguments}
    json.dumps(call, ensure_ascii=False).encode("utf-8")


def test_json_nested_too_deeply_is_text() -> None:
    deep = "<tool_call>" + '{"a":' * 100_000 + "</tool_call>"
    assert called(deep, QWEN, 0) == [deep]


@pytest.mark.parametrize("form", ["tag", "text", "name", "list"])
def test_arguments_nested_more_than_89_levels_are_text(form: str) -> None:
    """Python reads some of them that it cannot write again, and others would not read them."""
    template = MISTRAL if form in ("name", "list") else QWEN
    for levels in (1, 89, 90, *range(900, 1000)):
        arguments = '{"a":' * levels + "1" + "}" * levels
        text = {
            "tag": f'<tool_call>{{"name":"f","arguments":{arguments}}}</tool_call>',
            "text": f'<tool_call>{{"name":"f","arguments":{json.dumps(arguments)}}}</tool_call>',
            "name": f"[TOOL_CALLS]f[ARGS]{arguments}",
            "list": f'[TOOL_CALLS][{{"name":"f","arguments":{arguments}}}]',
        }[form]
        parser = AnswerParser(ReasoningParser(), tool_call_parser(template))
        deltas = [parser.push(text), parser.flush()]
        calls = [call for delta in deltas for call in delta.tool_calls]
        assert len(calls) == (levels < 90)
        assert calls or "".join(delta.text for delta in deltas) == text


@pytest.mark.parametrize("size", [3, 10_000_000])
def test_each_character_of_a_call_is_looked_at_about_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that writes end tags in a string without end must not take quadratic time."""
    looked: list[int] = []
    signs = _Tagged.SIGNS

    class Counting:
        def finditer(self, text: str, begin: int, end: int) -> Iterator[re.Match[str]]:
            looked.append(end - begin)
            return signs.finditer(text, begin, end)

    monkeypatch.setattr(_Tagged, "SIGNS", Counting())
    text = '<tool_call>{"name": "' + "</tool_call>" * 2000
    parser = tool_call_parser(QWEN)
    found = [each for at in range(0, len(text), size) for each in parser.push(text[at : at + size])]
    assert [*found, *parser.flush()] == [text]
    assert sum(looked) <= 2 * len(text)


@pytest.mark.parametrize(
    "inside",
    [
        r'{"name": "f", "arguments": {"a": "\\"}}',
        r'{"name": "f", "arguments": {"a": "\"</tool_call>"}}',
        r'{"name": "f", "arguments": {"a": "\\\"</tool_call>"}}',
        r'{"name": "f", "arguments": {"a": "</tool_call>\\"}}',
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_escapes_before_an_end_tag(inside: str, seed: int) -> None:
    call = ToolCallText("f", json.loads(inside)["arguments"])
    assert called(f"<tool_call>{inside}</tool_call>", QWEN, seed) == [call]


def test_text_is_not_held_back_longer_than_a_tag_may_be() -> None:
    parser = tool_call_parser(QWEN)
    assert [parser.push(piece) for piece in ("a", " b<", "to", "p")] == [
        ["a"], [" b"], [], ["<top"],
    ]  # fmt: skip


def test_calls_have_ids_of_nine_letters_that_depend_on_the_prompt() -> None:
    def ids(key: str) -> list[str]:
        parser = AnswerParser(ReasoningParser(), tool_call_parser(QWEN), key)
        delta = parser.push(f"<tool_call>{ONE}</tool_call><tool_call>{ONE}</tool_call>")
        return [call["id"] for call in delta.tool_calls]

    assert len({*ids("a"), *ids("b")}) == 4
    assert ids("a") == ids("a")
    assert all(len(each) == 9 and each.isalnum() for each in ids("a"))


def test_without_tools_a_call_is_text() -> None:
    parser = AnswerParser(ReasoningParser(), None)
    text = f"<tool_call>{ONE}</tool_call>"
    assert parser.push(text).text + parser.flush().text == text


def test_reasoning_comes_before_calls() -> None:
    parser = AnswerParser(ReasoningParser(open=True), tool_call_parser(QWEN))
    delta = parser.push(f"<tool_call>no</tool_call></think>\n\n<tool_call>{ONE}</tool_call>")
    assert (delta.reasoning, delta.text) == ("<tool_call>no</tool_call>", "")
    assert delta.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


def test_undecided_is_the_longest_beginning_of_a_tag() -> None:
    assert undecided("a<", ["<a>", "<b>"]) == 1
    assert undecided("<<", ["<<<"]) == 2
    assert undecided("<a>", ["<a>"]) == 0
    assert undecided("", ["<a>"]) == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        (QWEN, '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', ["", [CALL]]),
        (QWEN, 'x<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', ...),
        (QWEN, "<tool_", ...),
        (QWEN, "<tool_x>", ...),
        (QWEN, "", ...),
        (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]', ["", [CALL]]),
        (MISTRAL, '{"a": "[TOOL_CALLS]"}', ...),
    ],
)
def test_calls_instead_of_a_text(template: str, text: str, expected: Any, seed: int) -> None:
    """With a form, a text has calls only if it begins with their tag; `...`: all of it is text."""
    tag = tool_call_tag(template)
    assert tag is not None
    parser = CallsInstead(tool_call_parser(template), tag)
    found = [each for piece in cuts(text, seed) for each in parser.push(piece)] + parser.flush()
    texts = "".join(each for each in found if isinstance(each, str))
    calls = [each for each in found if not isinstance(each, str)]
    assert [texts, calls] == ([text, []] if expected is ... else expected)


def test_calls_of_llama_need_no_tag() -> None:
    assert tool_call_tag(LLAMA) is None
