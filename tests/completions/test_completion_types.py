"""Completions have the types of llama-cpp-python and of OpenAI's client, and the arguments and
defaults of llama-cpp-python.

`RYZANSTEIN_LLAMA_CPP` names a folder with the sources of llama-cpp-python.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import types
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.chat.format import ChatFormat
from ryzanstein_llm.chat.request import ChatRequest
from ryzanstein_llm.openai.answers import ChatCompletionChunks
from ryzanstein_llm.openai.arguments import read_settings
from ryzanstein_llm.options import GenerationOptions
from ryzanstein_llm.results import GenerationResult, Timings

needs_extra("chat", "jinja2")

MESSAGES = [{"role": "user", "content": "Tell me a tale."}]
TURNS = "{% for m in messages %}{{ m.role }}\n{{ m.content }}\n{% endfor %}assistant\n"
CALLING = TURNS + "<think>{# tools <tool_call> </think> #}"
WRITTEN = 'hm</think>Yes.<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TOOL = {"name": "f", "parameters": {"type": "object"}}

MORE = {"prompt_tokens_details", "reasoning_content"}
"""Keys of OpenAI's API and of other servers that llama-cpp-python does not have."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as opened:
        yield opened


@pytest.fixture(scope="module")
def completion(model: BitNetModel) -> Json:
    return model.create_completion("Once", seed=1, max_tokens=5)


@pytest.fixture(scope="module")
def completion_chunks(model: BitNetModel) -> list[Json]:
    options: Any = {"stream_options": {"include_usage": True}}
    return list(model.create_completion("Once", seed=1, max_tokens=5, stream=True, **options))


@pytest.fixture(scope="module")
def chats(model: BitNetModel) -> list[Json]:
    """A plain answer, and one with reasoning and a tool call, in the words of another model."""
    plain = model.create_chat_completion(MESSAGES, chat_template=TURNS, seed=1, max_tokens=5)
    return [plain, _calling(model).to_dict()]


@pytest.fixture(scope="module")
def chat_chunks(model: BitNetModel) -> list[Json]:
    options: Any = {"stream_options": {"include_usage": True}, "chat_template": TURNS}
    stream = model.create_chat_completion(MESSAGES, seed=1, max_tokens=5, stream=True, **options)
    answer = _calling(model)
    chunks = ChatCompletionChunks("mine")
    parser = _request(model).parser()
    deltas = [parser.push(WRITTEN), parser.flush()]
    calling = [*map(chunks.of, filter(None, deltas)), chunks.last(answer)]
    assert any("tool_calls" in chunk["choices"][0]["delta"] for chunk in calling)
    assert calling[-1]["choices"][0]["finish_reason"] == "tool_calls"
    return [*stream, *calling]


def _request(model: BitNetModel) -> ChatRequest:
    format = ChatFormat(CALLING, model.vocabulary)
    prompt = format.prompt(MESSAGES, [TOOL], {})
    return ChatRequest(model.engine, format, prompt, model._chat_options({}), tools={"f"})


def _calling(model: BitNetModel) -> Any:
    return _request(model).answer(GenerationResult(WRITTEN, [5, 6], "eos", 3, 0, Timings()))


# ---- llama-cpp-python -----------------------------------------------------------------------


def llama_source(name: str) -> Path:
    if "RYZANSTEIN_LLAMA_CPP" not in os.environ:
        pytest.skip("RYZANSTEIN_LLAMA_CPP is not set")
    found = list(Path(os.environ["RYZANSTEIN_LLAMA_CPP"]).rglob(f"llama_cpp/{name}"))
    if not found:
        pytest.skip("RYZANSTEIN_LLAMA_CPP names no llama-cpp-python")
    return found[0]


@pytest.fixture(scope="module")
def llama_types() -> types.ModuleType:
    path = llama_source("llama_types.py")
    pytest.importorskip("typing_extensions")
    spec = importlib.util.spec_from_file_location("llama_types", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differences(value: Any, kind: Any, scope: types.ModuleType, where: str = "") -> list[str]:
    """Where a value is not of a type that is made of TypedDicts."""
    if isinstance(kind, (str, typing.ForwardRef)):
        name = kind if isinstance(kind, str) else kind.__forward_arg__
        return differences(value, getattr(scope, name), scope, where)
    if hasattr(kind, "__required_keys__"):
        hints: Json = {}
        for base in reversed([*getattr(kind, "__orig_bases__", ()), kind]):
            hints.update(getattr(base, "__annotations__", {}))
        if not isinstance(value, dict):
            return [f"{where} is no dict"]
        missing = set(kind.__required_keys__) - set(value)
        unknown = set(value) - set(hints) - MORE
        found = [f"{where} lacks {key}" for key in missing]
        found += [f"{where} has {key}" for key in unknown]
        for key in set(value) & set(hints):
            found += differences(value[key], hints[key], scope, f"{where}.{key}")
        return found
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        each = [differences(value, one, scope, where) for one in arguments]
        return [] if [] in each else min(each, key=len)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{where} is {value!r}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [
            problem
            for index, one in enumerate(value)
            for problem in differences(one, arguments[0], scope, f"{where}[{index}]")
        ]
    if str(origin).endswith("NotRequired"):
        return differences(value, arguments[0], scope, where)
    assert isinstance(kind, type), kind
    return [] if isinstance(value, kind) else [f"{where} is {value!r}"]


def test_completions_have_the_types_of_llama_cpp_python(
    llama_types: types.ModuleType,
    completion: Json,
    completion_chunks: list[Json],
    chats: list[Json],
    chat_chunks: list[Json],
) -> None:
    # the usage is None in all chunks but the last, as OpenAI's API has it
    bare = [{k: v for k, v in c.items() if k != "usage"} for c in completion_chunks]
    bare_chat = [{k: v for k, v in c.items() if k != "usage"} for c in chat_chunks]
    pairs = [(completion, llama_types.CreateCompletionResponse)]
    pairs += [(chunk, llama_types.CreateCompletionStreamResponse) for chunk in bare]
    pairs += [(chat, llama_types.CreateChatCompletionResponse) for chat in chats]
    pairs += [(chunk, llama_types.CreateChatCompletionStreamResponse) for chunk in bare_chat]
    for value, kind in pairs:
        assert differences(value, kind, llama_types) == []


def test_a_completion_of_another_form_is_seen(
    llama_types: types.ModuleType, completion: Json
) -> None:
    kind = llama_types.CreateCompletionResponse
    without = {key: value for key, value in completion.items() if key != "created"}
    assert differences(without, kind, llama_types) == [" lacks created"]
    assert differences({**completion, "x": 1}, kind, llama_types) == [" has x"]
    choice = {**completion["choices"][0], "finish_reason": "eos"}
    found = differences({**completion, "choices": [choice]}, kind, llama_types)
    assert found == [".choices[0].finish_reason is 'eos'"]


def llama_defaults(method: str) -> Json:
    """Arguments of a method of llama-cpp-python with their defaults."""
    tree = ast.parse(llama_source("llama.py").read_text(encoding="utf-8"))
    (node,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == method
    )
    names = [each.arg for each in node.args.args][-len(node.args.defaults) :]
    return dict(zip(names, map(ast.literal_eval, node.args.defaults), strict=True))


@pytest.mark.parametrize("method", ["create_completion", "create_chat_completion"])
def test_defaults_are_those_of_llama_cpp_python(model: BitNetModel, method: str) -> None:
    """To give all defaults of llama-cpp-python is to give nothing."""
    given = llama_defaults(method)
    assert len(given) > 20
    chat = method == "create_chat_completion"
    said: Any = MESSAGES if chat else "Once"
    own: Json = {"chat_template": TURNS} if chat else {}
    answers = [
        getattr(model, method)(said, **{**options, "seed": 7}, **own) for options in (given, {})
    ]
    assert answers[0]["choices"] == answers[1]["choices"]
    del given["stream"]
    settings = [
        read_settings(options, chat=chat, stream=False, temperature=given["temperature"])
        for options in (given, {})
    ]
    options = [GenerationOptions.from_arguments(each.options) for each in settings]
    assert options[0] == options[1]
    assert (settings[0].model, settings[0].echo) == (settings[1].model, settings[1].echo)


# ---- OpenAI's client ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client_types() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside these packages
        pytest.importorskip("openai", reason="openai is not installed: pip install openai")
        return importlib.import_module("openai.types")


def validated(kind: Any, value: Json) -> Any:
    """The object of pydantic; raises if the value has another form."""
    found = kind.model_validate(value, strict=True)
    assert found.model_extra == {}
    return found


def test_chat_completions_are_those_of_the_client(
    client_types: Any, chats: list[Json], chat_chunks: list[Json]
) -> None:
    for chat in chats:
        found = validated(client_types.chat.ChatCompletion, chat)
        assert found.choices[0].message.content == chat["choices"][0]["message"]["content"]
    (call,) = found.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("f", '{"a": 1}')
    assert found.choices[0].finish_reason == "tool_calls"
    for chunk in chat_chunks:
        validated(client_types.chat.ChatCompletionChunk, chunk)


def test_completions_are_those_of_the_client(
    client_types: Any, completion: Json, completion_chunks: list[Json]
) -> None:
    found = validated(client_types.Completion, completion)
    assert found.choices[0].text == completion["choices"][0]["text"]
    assert found.usage.completion_tokens == 5
    for chunk in completion_chunks:
        # the client's type has no None here, though OpenAI's API sends it before the last chunk
        choices = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"}
            for choice in chunk["choices"]
        ]
        validated(client_types.Completion, {**chunk, "choices": choices})
