"""`chat` and `chat_stream` with the demo model, which has no template of its own."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_model import DEMO
from extras import needs_extra

from ryzanstein_llm import BitNetModel, ChatDelta, ChatResult, SamplingParams
from ryzanstein_llm.chat.format import ChatFormat
from ryzanstein_llm.chat.request import ChatRequest
from ryzanstein_llm.errors import (
    ChatTemplateError,
    ClosedError,
    ContextOverflowError,
    InvalidParameterError,
    TokenizerMissingError,
)
from ryzanstein_llm.results import GenerationResult, Timings

needs_extra("chat", "jinja2")

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)
TALE = [{"role": "user", "content": "Tell me a tale."}]
TOOL = {"name": "f", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as opened:
        yield opened


def test_the_answer_continues_the_rendered_text(model: BitNetModel) -> None:
    result = model.chat(TALE, chat_template=TURNS, max_tokens=20, temperature=0)
    ids = [0, *model.tokenize("user\nTell me a tale.", add_special_tokens=False), 1]
    ids += [*model.tokenize("\n", add_special_tokens=False), 0]
    ids += model.tokenize("assistant\n", add_special_tokens=False)
    options = SamplingParams.from_checkpoint(model, temperature=0)
    expected = model.generate(ids, max_tokens=20, sampling=options, return_result=True)
    assert result.generation.ids == expected.ids
    assert result.text == expected.text
    assert result.generation.prompt_tokens == len(ids)


def test_the_checkpoint_says_how_to_sample(model: BitNetModel) -> None:
    assert model.generation_config["do_sample"]
    one, two, three = (
        model.chat(TALE, chat_template=TURNS, max_tokens=30, seed=seed).text for seed in (1, 1, 2)
    )
    assert one == two != three
    own = SamplingParams(seed=1, temperature=1.3)
    assert model.chat(TALE, chat_template=TURNS, max_tokens=30, sampling=own).text != one


def test_pieces_are_the_answer(model: BitNetModel) -> None:
    options: dict[str, Any] = {"chat_template": TURNS, "max_tokens": 30, "seed": 1}
    stream = model.chat_stream(TALE, **options)
    with pytest.raises(RuntimeError, match="not ended"):
        _ = stream.result
    deltas = list(stream)
    whole = model.chat(TALE, **options)
    assert len(deltas) > 5
    assert "".join(str(delta) for delta in deltas) == whole.text == stream.result.text
    assert stream.result.message == whole.message
    assert list(stream) == []


def test_a_stream_can_be_ended_early(model: BitNetModel) -> None:
    with model.chat_stream(TALE, chat_template=TURNS, seed=1) as stream:
        first = next(stream)
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text.startswith(first.text)
    stream = model.chat_stream(TALE, chat_template=TURNS, seed=1)
    next(stream)
    stream.cancel()
    assert len(list(stream)) <= 1
    assert stream.result.finish_reason == "cancelled"
    assert repr(stream).startswith("ChatStream(cancelled")


def test_the_result_has_the_form_of_openai(model: BitNetModel) -> None:
    result = model.chat(TALE, chat_template=TURNS, max_tokens=5, seed=1)
    found = json.loads(json.dumps(result.to_dict()))
    assert set(found) == {"id", "object", "created", "model", "choices", "usage"}
    assert (found["object"], found["model"]) == ("chat.completion", "demo")
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": result.text},
            "finish_reason": "length",
            "logprobs": None,
        }
    ]
    usage = found["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert pickle.loads(pickle.dumps(result)) == result
    assert repr(result).startswith("ChatResult(")
    assert "<" in result._repr_html_()


def test_a_second_question_uses_the_beginning_of_the_first(model: BitNetModel) -> None:
    messages = [{"role": "system", "content": "You tell tales of long ago. " * 5}, *TALE]
    model.chat(messages, chat_template=TURNS, max_tokens=1)
    result = model.chat(
        [messages[0], {"role": "user", "content": "Why?"}], chat_template=TURNS, max_tokens=1
    )
    assert result.usage["prompt_tokens_details"]["cached_tokens"] > 40


# ---- what models of other kinds write -------------------------------------------------------


def answer(model: BitNetModel, source: str, text: str, *, tools: bool = True) -> ChatResult:
    """What becomes of a text that a model wrote."""
    format = ChatFormat(source, model.vocabulary)
    prompt = format.prompt(TALE, [TOOL] if tools else None, {})
    names = {"f"} if tools else None
    request = ChatRequest(model.engine, format, prompt, model._chat_options({}), tools=names)
    return request.answer(GenerationResult(text, [5, 6], "eos", 3, 0, Timings()))


def test_reasoning_and_calls_are_apart_from_the_text(model: BitNetModel) -> None:
    source = TURNS + "<think>\n{# tools #}{# <tool_call> </think> #}"
    call = '<tool_call>\n{"name": "f", "arguments": {"a": "ö"}}\n</tool_call>'
    result = answer(model, source, f"hm\n</think>\n\nYes.\n{call}")
    assert (result.reasoning, result.text, result.finish_reason) == ("hm", "Yes.", "tool_calls")
    (found,) = result.tool_calls
    assert found["function"] == {"name": "f", "arguments": '{"a": "ö"}'}
    assert result.message["tool_calls"] == [found]
    assert result.message["reasoning_content"] == "hm"
    assert "1 tool call" in repr(result)
    alone = answer(model, source, f"</think>{call}")
    assert (alone.reasoning, alone.message["content"]) == (None, None)
    # an answer can be part of the next question
    ChatFormat(source, model.vocabulary).prompt(TALE, None, {})
    model.chat([*TALE, result.message, *TALE], chat_template=source, max_tokens=1)


def test_without_tools_a_call_is_text(model: BitNetModel) -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    result = answer(model, TURNS + "{# <tool_call> #}", text, tools=False)
    assert (result.text, result.tool_calls, result.finish_reason) == (text, [], "stop")


def test_json_that_has_a_name_is_an_answer_of_llama_and_no_call(model: BitNetModel) -> None:
    source = TURNS + '{# tools "parameters" #}'
    for text in ('{"name": "Bob"}', '{"name": "Bob", "parameters": {"age": 3}}'):
        result = answer(model, source, text)
        assert (result.text, result.tool_calls, result.finish_reason) == (text, [], "stop")
    result = answer(model, source, '{"name": "f", "parameters": {"a": 3}}')
    assert result.text == ""
    assert result.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a": 3}'}
    assert result.finish_reason == "tool_calls"


def test_a_call_with_a_lone_surrogate_can_be_sent_and_be_part_of_the_next_question(
    model: BitNetModel,
) -> None:
    source = TURNS + "{# tools #}{# <tool_call> #}"
    result = answer(
        model, source, r'<tool_call>{"name": "f", "arguments": {"a": "x\ud800y"}}</tool_call>'
    )
    json.dumps(result.to_dict(), ensure_ascii=False).encode("utf-8")
    assert result.tool_calls[0]["function"]["arguments"] == '{"a": "x\ufffdy"}'
    model.chat([*TALE, result.message, *TALE], chat_template=source, max_tokens=1)


def test_the_token_after_an_answer_ends_an_answer(model: BitNetModel) -> None:
    assert ChatFormat(TURNS, model.vocabulary).vocabulary.eos_ids == (1,)
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ bos_token }}\n{% endfor %}x"
    assert ChatFormat(source, model.vocabulary).vocabulary.eos_ids == (1, 0)
    assert ChatFormat("{{ messages[0].content }}", model.vocabulary).vocabulary.eos_ids == (1,)


def test_a_template_that_takes_parts_gets_parts(model: BitNetModel) -> None:
    source = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    format = ChatFormat(source, model.vocabulary)
    assert format.prompt(TALE, None, {}).text == "Tell me a tale."


def test_a_template_that_joins_arguments_gets_a_text(model: BitNetModel) -> None:
    source = "{% for m in messages %}{% for c in m.tool_calls %}<{{ 'a' + c.function.arguments }}>"
    source += "{% endfor %}{{ m.content }}{% endfor %}"
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": "ö"}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    text = ChatFormat(source, model.vocabulary).prompt([message], None, {}).text
    assert text == '<a{"a": "ö"}>'


def test_a_developer_is_the_system_unless_the_template_knows_developers(
    model: BitNetModel,
) -> None:
    said = [{"role": "developer", "content": "a"}]
    plain = ChatFormat("{{ messages[0].role }}", model.vocabulary)
    knows = ChatFormat("{{ messages[0].role }}{# developer #}", model.vocabulary)
    assert [each.prompt(said, None, {}).text for each in (plain, knows)] == ["system", "developer"]


def test_roles_that_the_template_names_are_roles(model: BitNetModel) -> None:
    source = "{% if messages[0].role == 'ipython' %}a{% endif %}{{ messages[0]['role'] == \"x\" }}"
    roles = ChatFormat(source, model.vocabulary).roles
    assert {"ipython", "x", "user"} <= set(roles)


# ---- errors come before any work ------------------------------------------------------------


def test_the_demo_model_has_no_template(model: BitNetModel) -> None:
    with pytest.raises(
        ChatTemplateError, match="the checkpoint has no chat template; pass Jinja text"
    ):
        model.chat(TALE)


def test_tools_need_a_place_in_the_template(model: BitNetModel) -> None:
    with pytest.raises(ChatTemplateError, match="has no place for tools"):
        model.chat(TALE, chat_template=TURNS, tools=[TOOL])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"messages": [{"role": "usr", "content": ""}]}, "messages[0]['role'] must be one of"),
        ({"chat_template": 3}, "chat_template must be a str, not 3"),
        ({"chat_template": "chatml"}, "neither Jinja text nor the name of a template: 'chatml'"),
        (
            {"chat_template": "a/b.jinja"},
            "must be the text of a template, not its path 'a/b.jinja'",
        ),
        (
            {"chat_template": Path("b")},
            "must be the text of a template, not its path 'b'; read the",
        ),
        ({"chat_template_kwargs": {"tools": 1}}, "chat_template_kwargs cannot have 'tools'"),
        ({"tools": "f"}, "tools must be a list of tools, not 'f'"),
        ({"temperature": -1}, "temperature must be in [0, 100], not -1"),
        ({"max_token": 3}, "max_token is no option"),
        ({"sampling": 3}, "sampling must be SamplingParams, not 3"),
    ],
)
def test_wrong_arguments(model: BitNetModel, arguments: dict[str, Any], problem: str) -> None:
    given = {"messages": TALE, "chat_template": TURNS, **arguments}
    for ask in (model.chat, model.chat_stream):
        with pytest.raises(InvalidParameterError, match=re.escape(problem)):
            ask(**given)


def test_what_a_template_raises_reaches_the_caller(model: BitNetModel) -> None:
    with pytest.raises(ChatTemplateError, match="alternate") as caught:
        model.chat(TALE, chat_template="{{ raise_exception('roles must alternate') }}")
    assert caught.value.reason == "roles must alternate"
    with pytest.raises(ChatTemplateError, match="makes an empty text"):
        model.chat(TALE, chat_template="{# nothing #}")


def test_a_conversation_longer_than_the_context_is_refused(model: BitNetModel) -> None:
    long = [{"role": "user", "content": "tale " * 600}]
    with pytest.raises(ContextOverflowError):
        model.chat(long, chat_template=TURNS)


def test_a_closed_model_and_one_without_tokenizer_refuse(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    with BitNetModel(tmp_path) as bare, pytest.raises(TokenizerMissingError):
        bare.chat(TALE, chat_template=TURNS)
    closed = BitNetModel()
    closed.close()
    with pytest.raises(ClosedError):
        closed.chat(TALE, chat_template=TURNS)


def test_named_templates_are_chosen_by_name_and_by_tools(tmp_path: Path) -> None:
    for path in DEMO.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "default", "template": "default {{ messages[0].content }}"},
        {"name": "tool_use", "template": "{{ tools[0].function.name }} {{ messages[0].content }}"},
        {"name": "rag", "template": "rag {{ messages[0].content }}"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with BitNetModel(tmp_path) as model:
        assert model.chat(TALE, max_tokens=1).generation.prompt_tokens > 1
        formats = [
            model._chat_format(None, tools=False),
            model._chat_format(None, tools=True),
            model._chat_format("rag", tools=False),
        ]
        texts = [each.prompt(TALE, [{"function": TOOL}], {}).text for each in formats[1:2]]
        texts += [each.prompt(TALE, None, {}).text for each in (formats[0], formats[2])]
        assert texts == ["f Tell me a tale.", "default Tell me a tale.", "rag Tell me a tale."]


def test_an_empty_delta_is_false() -> None:
    assert not ChatDelta()
    assert ChatDelta("a")
    assert str(ChatDelta("a", "b")) == "a"
