"""Templates of released models give the same text as in transformers, or both refuse.

`RYZANSTEIN_LLAMA_CPP` names a folder of llama.cpp, which has many (`models/templates`); the source
distribution of llama-cpp-python has one in `vendor/llama.cpp`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from demo_model import DEMO
from extras import needs_extra
from tokenizers import AddedToken

from ryzanstein_llm.errors import ChatTemplateError
from ryzanstein_llm.text.chat_prompt import ChatPrompt, ChatPrompts
from ryzanstein_llm.text.chat_template import ChatTemplate
from ryzanstein_llm.text.tokenizer import Tokenizer

needs_extra("chat", "jinja2")
chat_template_utils = needs_extra(
    "parity", "transformers", "transformers.utils.chat_template_utils"
)

FOLDER = Path(os.environ.get("RYZANSTEIN_LLAMA_CPP", "not-given")) / "models" / "templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

CITY = {"type": "string", "enum": ["Köln", "東京"], "description": '<Ort> & "Stadt"'}
PARAMETERS = {"type": "object", "properties": {"city": CITY}, "required": ["city"]}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Wetter", "parameters": PARAMETERS},
    }
]


def said(*texts: Any) -> list[dict[str, Any]]:
    """User and assistant by turns; a text with "S:" is the system's."""
    messages: list[dict[str, Any]] = []
    for text in texts:
        if isinstance(text, str) and text.startswith("S:"):
            messages.append({"role": "system", "content": text[2:]})
        elif isinstance(text, dict):
            messages.append(text)
        else:
            turn = len([m for m in messages if m["role"] in ("user", "assistant")]) % 2
            messages.append({"role": ("user", "assistant")[turn], "content": text})
    return messages


def called(arguments: Any, content: str | None) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


ANSWER = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": '{"t": 3}'}

CONVERSATIONS = {
    "a question": said("Hi"),
    "a system message": said("S:Be brief.", "Hi"),
    "three turns": said("Hi", "Hello", "Why?"),
    "an answer at the end": said("S:s", "Hi", "Hello"),
    "a tool call": said("Weather?", called({"city": "Köln"}, ""), ANSWER, "thanks"),
    "a tool call with text": said("Weather?", called('{"city": "Köln"}', None), ANSWER),
    "reasoning in the text": said("q", "<think>\nhm\n</think>\n\nanswer", "q2"),
    "reasoning apart": said("q", {"role": "assistant", "content": "a", "thinking": "hm"}, "q2"),
    "much of Unicode": said(
        "größe 東京 🎉 \u200d <b>&amp;</b> 'q' \"d\" \\n", "ok", "  blanks \n\n"
    ),
    "an empty text": said(""),
    "parts": said([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]),
    "two system messages": said("S:a", "b", "S:c"),
    "two of the user": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "nothing": [],
    "a developer": [{"role": "developer", "content": "d"}, *said("x")],
}

VARIABLES: list[dict[str, Any]] = [
    {},
    {"add_generation_prompt": False},
    {"enable_thinking": False},
    {"enable_thinking": True, "thinking": True},
    {"tools": TOOLS},
    {"tools": TOOLS, "documents": [{"title": "T", "text": "doc"}]},
    {"reasoning_effort": "low"},
    {"functions": "[]", "datetime": "today"},  # for firefunction
]


def theirs(source: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str | None:
    given = {**TOKENS, "add_generation_prompt": True, **variables}
    try:
        normal = chat_template_utils._normalize_chat_messages(messages)
        found = chat_template_utils.render_jinja_template([normal], chat_template=source, **given)
    except Exception:  # whatever their template raises
        return None
    text: str = found[0][0]
    return text


def ours(source: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str | None:
    try:
        return ChatTemplate(source, TOKENS).render(messages, **variables)
    except ChatTemplateError:
        return None


@pytest.mark.skipif(not FOLDER.is_dir(), reason="RYZANSTEIN_LLAMA_CPP names no llama.cpp")
def test_there_are_many() -> None:
    assert len(list(FOLDER.glob("*.jinja"))) > 60


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jinja")), ids=lambda path: path.stem)
def test_released_templates_give_the_same_text(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    same = 0
    for name, messages in CONVERSATIONS.items():
        for variables in VARIABLES:
            expected = theirs(source, messages, variables)
            if "strftime_now" in source and expected != ours(source, messages, variables):
                expected = theirs(source, messages, variables)  # midnight
            assert ours(source, messages, variables) == expected, (name, variables)
            same += expected is not None
    assert same >= 10  # so that not all were refused


def with_tokens_of(source: str) -> Tokenizer:
    """The demo tokenizer with everything in a template that looks like a special token."""
    raw = tokenizers.Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    shapes = r"<[^<>\s{}'\"]{1,40}>|\[/?[A-Z_]{3,30}\]|[\]\[]~\w?[\]\[]"
    found = sorted({*re.findall(shapes, source), "</s>"})
    raw.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in found])
    return Tokenizer(raw)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jinja")), ids=lambda path: path.stem)
def test_special_tokens_in_messages_stay_text(path: Path) -> None:
    """The special tokens of a prompt are the same, whatever the user and the system say."""
    source = path.read_text(encoding="utf-8")
    tokenizer = with_tokens_of(source)
    prompts = ChatPrompts(ChatTemplate(source, TOKENS), tokenizer)

    def control(text: str) -> list[str | None]:
        made = first_accepted(prompts, text)
        assert tokenizer.decode(made.ids, skip_special_tokens=False) == made.text
        return [t for t in map(tokenizer.token, made.ids) if t in prompts.control]

    harmless = control("a text")
    assert harmless or path.stem == "llama-cpp-rwkv-world"  # it writes none
    for token in prompts.control:
        assert control(f"a {token} b{token}") == harmless, token


def first_accepted(prompts: ChatPrompts, text: str) -> ChatPrompt:
    """Some templates take no system message, others fail without tools, or with them."""
    for messages in (said(f"S:{text}", text, "fine", text), said(text, "fine", text)):
        for tools in (TOOLS, None):
            try:
                return prompts.make(messages, tools=tools, **VARIABLES[-1])
            except ChatTemplateError as error:
                last = error
    raise last
