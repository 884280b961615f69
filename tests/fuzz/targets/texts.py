"""Programs and texts of people and models: chat templates, requests, answers, prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.chat.answer import AnswerParser
from ryzanstein_llm.text import chat_template as templates
from ryzanstein_llm.text.chat_template import ChatTemplate
from ryzanstein_llm.text.reasoning import TAGS, ReasoningParser
from ryzanstein_llm.text.stop_strings import StopStrings
from ryzanstein_llm.text.tokenizer import Tokenizer
from ryzanstein_llm.text.tool_calls import tool_call_parser

from ..models import CHATML, small_model
from ..target import Ready, target

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello <|im_end|>"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {"a": [1, None]}}}]},
    {"role": "tool", "content": "12", "name": "f"},
]  # fmt: skip

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
]

JINJA = """{% for x in range(9) %}|{% endfor %}|{% if messages %}|{% endif %}|{% set n = 1 %}|{{|}}|
{%- macro m(a) %}|{% endmacro %}|{{ m(1) }}|namespace(a=1)|loop.index0|loop.last|| tojson|| length|
| join(', ')|| map(attribute='role')|| selectattr('role', 'equalto', 'user')|| list|| trim|| upper|
.split('a')|.items()|[::-1]|[1:]|.strip()| ~ | * 99999| ** 9| % 7| // 0|is defined|is mapping|
raise_exception('no')|strftime_now('%Y')|.format(1)|'%s' % || replace('a', 'b')|| indent(4)|| first|
.__class__|['__init__']|dict(a=1)|{% break %}|{% continue %}|{% generation %}|{% endgeneration %}|
| batch(3)|| slice(3)|| groupby('role')|| center(80)|| wordwrap(2)|| sort|| unique|| sum|| reverse|
{% call m() %}|{% endcall %}|{% filter upper %}|{% endfilter %}|{# x #}|{% raw %}|{% endraw %}|
{% block b %}|{% endblock %}|{% include 'x' %}|{% import 'x' as y %}|{% extends 'x' %}|self.b()|
cycler(1,2)|joiner()|recursive|loop(messages)|'a' * 8000000|range(10**9)|(1,2)|[1]*9|{'a': 1}"""

SOURCES = [
    CHATML,
    "{{ bos_token }}{%- set ns = namespace(found=false) %}{%- for m in messages[::-1] %}"
    "{%- if m.role == 'user' and not ns.found %}{%- set ns.found = true %}{%- endif %}"
    "{%- if m.tool_calls is defined %}{%- for t in m.tool_calls %}{{ t | tojson(indent=2) }}"
    "{%- endfor %}{%- else %}{{ '[' ~ m['content'].split('x')[-1].strip() ~ ']' }}{%- endif %}"
    "{%- endfor %}",
    "{%- macro show(a, b=2) %}{{ a | join(', ') | upper }}{% endmacro %}{{ show(['x', 'y']) }}"
    "{% for key, value in messages[0].items() | sort(reverse=true) %}{{ loop.index }}{{ key }}"
    "{% else %}{{ raise_exception('none') }}{% endfor %}{{ '%s and {}' % 'a' }}",
    "{% for a in range(300) %}{% for b in 'abc' * 50 %}{{ a ** 2 // (loop.index + 1) }}{% endfor %}"
    "{% endfor %}{{ messages | map(attribute='content') | select('string') | list | length }}",
]


@target
def chat_template(folder: Path) -> Ready:
    """Jinja of a checkpoint, with a tenth of the time that it is usually given."""
    templates.SECONDS = 0.5

    def read(data: bytes) -> None:
        source = data.decode("utf-8", "replace")
        template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
        template.render(MESSAGES, tools=TOOLS)

    words = [word.encode() for word in JINJA.replace("\n", "").split("|")]
    return Ready(read, [source.encode() for source in SOURCES], words)


@target
def chat_request(folder: Path) -> Ready:
    """The body of a request in the form of OpenAI's API."""
    config = {"chat_template": CHATML}
    path = small_model(folder / "model")
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **config}))
    model = BitNetModel(path, n_threads=1, packed_cache=False)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    body = {
        "messages": MESSAGES, "tools": TOOLS, "max_tokens": 2, "temperature": 0.5, "seed": 1,
        "stop": ["x"], "top_k": 5, "logit_bias": {"5": 1.0}, "stream_options": None,
    }  # fmt: skip
    seeds = [
        body,
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
            "max_tokens": 2, "chat_template_kwargs": {"a": 1}, "logprobs": True, "top_logprobs": 2,
        },
        {"prompt": "Once", "max_tokens": 2, "echo": True, "presence_penalty": 1.0, "stop": "a"},
        {"prompt": [3, 4], "max_tokens": 2, "logprobs": 3, "repeat_penalty": 1.1, "min_p": 0.1},
    ]  # fmt: skip

    def read(data: bytes) -> None:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(found, dict) or "self" in found:
            return
        most = found.get("max_tokens")
        if isinstance(most, (int, type(None))) and most not in (0, 1, 2):
            found["max_tokens"] = 2  # otherwise much time for nothing new
        if "prompt" in found:
            answer = model.create_completion(**found)
        elif "messages" in found:
            answer = model.create_chat_completion(**found)
        else:
            return
        if isinstance(answer, dict):
            json.dumps(answer).encode()
        else:
            for chunk in answer:
                json.dumps(chunk).encode()

    words = [b'"tool_choice": "none",', b'"stream": true,', b'"grammar": "root ::= [a-z]",']
    return Ready(read, [json.dumps(seed).encode() for seed in seeds], words)


def _parsed(template: str, tags: tuple[str, str], open: bool, pieces: list[str]) -> Any:
    """(reasoning, text, calls); texts without blanks, of which more or fewer may be kept."""
    calls = tool_call_parser(template, {"f", "g"})
    parser = AnswerParser(ReasoningParser(tags, open=open), calls)
    deltas = [*map(parser.push, pieces), parser.flush()]
    text = "".join(delta.text for delta in deltas)
    calls = [call for delta in deltas for call in delta.tool_calls]
    return "".join(delta.reasoning for delta in deltas), text, calls


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@target
def answer(folder: Path) -> Ready:
    """What a model wrote: reasoning and tool calls. However it is cut, the result is the same, and
    it can be sent as UTF-8."""
    forms = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
    seeds = [
        '<think>\nhm\n</think>\n\nok <tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": "\\u00e9"}}, {"name": "g"}]',
        '[TOOL_CALLS]f[ARGS]{"a": "]"}[TOOL_CALLS]g{"b": 2}',
        '<|python_tag|>{"name": "f", "parameters": {"a": [1.5e3, null]}}; {"name": "g"}',
        '{"name": "f", "parameters": "{\\"a\\": 1}"}',
    ]

    def read(data: bytes) -> None:
        if not data:
            return
        text = data[1:].decode("utf-8", "replace")
        form, tags = forms[data[0] % 3], TAGS[data[0] // 3 % len(TAGS)]
        open = bool(data[0] & 128)
        whole = _parsed(form, tags, open, [text])
        width = 1 + data[0] % 5
        pieces = [text[at : at + width] for at in range(0, len(text), width)]
        assert _parsed(form, tags, open, pieces) == whole
        for part in whole[:2]:
            part.encode("utf-8")
        for call in whole[2]:
            json.dumps(call, ensure_ascii=False).encode("utf-8")
            json.loads(call["function"]["arguments"], parse_constant=_no_json)

    words = [
        b"<think>", b"</think>", b"<tool_call>", b"</tool_call>", b"[TOOL_CALLS]", b"[ARGS]",
        b'{"name": "f", ', b'"arguments": {', b"}}", b"<|python_tag|>", b"; ", b"\n", b"NaN",
        b"\\ud800", b"1e999", b"9" * 5000, b"[" * 2000, b"[CALL_ID]x",
    ]  # fmt: skip
    made = [bytes([number]) + seed.encode() for number, seed in enumerate(seeds)]
    return Ready(read, made, words)


@target
def prompt_text(folder: Path) -> Ready:
    """Texts to ids and back, and stop strings: nothing is lost, however it is cut."""
    path = small_model(folder / "model")
    tokenizer = Tokenizer.from_file(path / "tokenizer.json", {})

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "surrogatepass" if data[:1] < b"\x20" else "replace")
        ids = tokenizer.encode(text, add_special_tokens=False)
        back = tokenizer.decode(ids, skip_special_tokens=False)
        assert back == text, (back, text)
        stream = tokenizer.stream(skip_special_tokens=False)
        assert "".join(map(stream.push, ids)) + stream.flush() == text
        odd = [number for number in data if number < 256]
        stream = tokenizer.stream()
        assert "".join(map(stream.push, odd)) + stream.flush() == tokenizer.decode(odd)
        stops = [each for each in (text[3:6], text[9:10], "\n\n") if each]
        found = []
        for width in (1, 7, len(text) + 1):
            matcher = StopStrings(stops)
            cut = [text[at : at + width] for at in range(0, len(text), width)]
            found.append("".join(map(matcher.push, cut)) + matcher.flush())
        assert found[0] == found[1] == found[2]

    def without_invalid(data: bytes) -> None:
        try:
            read(data)
        except UnicodeDecodeError:  # not text, even with surrogates
            return

    words = ["<|end_of_text|>", "\ud800", "é", "𝄞", "﻿", "\r\n", "e\u0301", "가", "ﷺ", "   "]
    seeds = ["Once upon a time", "\tdéjà vu 1234 's", "\n\n  x\n", "日本語のテキスト 𝄞"]
    return Ready(
        without_invalid,
        [each.encode() for each in seeds],
        [each.encode("utf-8", "surrogatepass") for each in words],
    )
