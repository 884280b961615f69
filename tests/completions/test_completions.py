"""`create_completion` and `create_chat_completion` with the demo model."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_model import DEMO
from extras import needs_extra

from ryzanstein_llm import BitNetModel, ChatDelta, SamplingParams
from ryzanstein_llm.errors import (
    ChatTemplateError,
    ClosedError,
    ContextOverflowError,
    InvalidParameterError,
    UnsupportedFeatureError,
)
from ryzanstein_llm.openai import CompletionStream
from ryzanstein_llm.openai.answers import ChatCompletionChunks, completion_logprobs

needs_extra("chat", "jinja2")

ONCE = "Once upon a time"
TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if tools %}{{ tools[0].function.name }}{% endif %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)
TALE = [{"role": "user", "content": "Tell me a tale."}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CHAT: dict[str, Any] = {"chat_template": TURNS, "seed": 1}

LLAMA_COMPLETION = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=3)
"""What llama-cpp-python does by default; here with a seed."""


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel() as opened:
        yield opened


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def content_of(chunks: list[dict[str, Any]]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


# ---- completions ----------------------------------------------------------------------------


def test_a_completion_has_the_text_of_generate(model: BitNetModel) -> None:
    before = int(time.time())
    found = model.create_completion(ONCE, seed=3)
    expected = model.generate(ONCE, max_tokens=16, sampling=LLAMA_COMPLETION, return_result=True)
    assert re.fullmatch("cmpl-[0-9a-f]{32}", found.pop("id"))
    assert before <= found.pop("created") <= time.time()
    assert json.loads(json.dumps(found)) == {
        "object": "text_completion",
        "model": DEMO.name,
        "choices": [
            {"text": expected.text, "index": 0, "logprobs": None, "finish_reason": "length"}
        ],
        "usage": {
            "prompt_tokens": len(model.tokenize(ONCE)),
            "completion_tokens": 16,
            "total_tokens": len(model.tokenize(ONCE)) + 16,
        },
    }


def test_chunks_are_the_completion(model: BitNetModel) -> None:
    whole = model.create_completion(ONCE, seed=3, max_tokens=30, model="mine")
    stream = model.create_completion(ONCE, seed=3, max_tokens=30, model="mine", stream=True)
    assert isinstance(stream, CompletionStream)
    chunks = list(stream)
    assert len(chunks) > 5
    assert text_of(chunks) == whole["choices"][0]["text"]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    assert (chunks[0]["model"], chunks[0]["object"]) == ("mine", "text_completion")
    assert all("usage" not in chunk for chunk in chunks)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert text_of(chunks[-1:]) == ""
    assert list(stream) == []


def test_stop_strings_and_the_end_of_the_text_are_stop(model: BitNetModel) -> None:
    free = model.create_completion(ONCE, temperature=0, max_tokens=30)["choices"][0]["text"]
    stop = free.split()[4]
    for given in (stop, [stop, "zqxjkv"]):
        (found,) = model.create_completion(ONCE, temperature=0, max_tokens=30, stop=given)[
            "choices"
        ]
        assert (found["text"], found["finish_reason"]) == (free[: free.index(stop)], "stop")


def test_the_end_of_the_text_is_stop(model: BitNetModel, tmp_path: Path) -> None:
    fourth = model.generate(ONCE, max_tokens=4, return_result=True).ids[3]
    for path in DEMO.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "generation_config.json").read_text())
    config["eos_token_id"] = [1, fourth]
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    with BitNetModel(tmp_path) as ending:
        assert ending.eos_ids == (1, fourth)
        found = ending.create_completion(ONCE, temperature=0, max_tokens=None)
        chunks = list(ending.create_completion(ONCE, temperature=0, max_tokens=None, stream=True))
    assert found["model"] == tmp_path.name
    assert found["usage"]["completion_tokens"] < 4
    for choice in (found["choices"][0], chunks[-1]["choices"][0]):
        assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("count", [None, 0, -1])
def test_without_a_limit_a_text_goes_on_to_its_end(model: BitNetModel, count: int | None) -> None:
    found = model.create_completion(ONCE, temperature=0, max_tokens=count, stop=["zqxjkv"])
    assert found["usage"]["completion_tokens"] > 16


def test_the_prompt_is_echoed_as_it_was_given(model: BitNetModel) -> None:
    plain = model.create_completion(ONCE, seed=3)["choices"][0]["text"]
    ids = model.tokenize(ONCE)
    iterator: Any = iter(ids)
    found = model.create_completion(iterator, seed=3, echo=True)
    assert found["choices"][0]["text"] == ONCE + plain
    for prompt in (ONCE, ids, np.array(ids)):
        found = model.create_completion(prompt, seed=3, echo=True)
        assert found["choices"][0]["text"] == ONCE + plain
        assert found["usage"]["completion_tokens"] == 16
        chunks = list(model.create_completion(prompt, seed=3, echo=True, stream=True))
        assert (text_of(chunks[:1]), text_of(chunks)) == (ONCE, ONCE + plain)


def test_a_model_can_be_called(model: BitNetModel) -> None:
    called, named = model(ONCE, seed=3), model.create_completion(ONCE, seed=3)
    assert called["choices"] == named["choices"]


def test_sampling_arguments_reach_the_sampler(model: BitNetModel) -> None:
    given = {"temperature": 1.5, "top_k": 7, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95}
    given |= {"presence_penalty": 0.5, "frequency_penalty": 0.25, "seed": 9}
    found = model.create_completion(ONCE, repeat_penalty=1.3, max_tokens=40, **given)  # type: ignore[call-overload]
    own = SamplingParams(repetition_penalty=1.3, **given)  # type: ignore[arg-type]
    assert found["choices"][0]["text"] == model.generate(ONCE, max_tokens=40, sampling=own)


def test_a_negative_top_k_keeps_all_tokens_and_a_negative_seed_is_none(model: BitNetModel) -> None:
    one, other = (model.create_completion(ONCE, top_k=k, seed=5)["choices"] for k in (-1, 0))
    assert one == other
    texts = {model.create_completion(ONCE, seed=-1)["choices"][0]["text"] for _ in range(4)}
    assert len(texts) > 1


# ---- streams --------------------------------------------------------------------------------


def test_usage_comes_last_if_it_is_asked_for(model: BitNetModel) -> None:
    options: Any = {"stream": True, "max_tokens": 5, "stream_options": {"include_usage": True}}
    text = list(model.create_completion(ONCE, seed=3, **options))
    chat = list(model.create_chat_completion(TALE, **CHAT, **options))
    for chunks in (text, chat):
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 5
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    off: Any = {**options, "stream_options": {"include_usage": False}}
    assert "usage" not in list(model.create_completion(ONCE, **off))[-1]


def test_closing_ends_the_generation(model: BitNetModel) -> None:
    for ask in (
        lambda: model.create_completion(ONCE, seed=3, stream=True, max_tokens=None),
        lambda: model.create_chat_completion(TALE, stream=True, **CHAT),
    ):
        with ask() as stream:
            next(stream)
            next(stream)
        assert list(stream) == []
        assert "closed with" in repr(stream)
        unread = ask()
        unread.close()
        assert list(unread) == []
        cancelled = ask()
        seen = [next(cancelled), next(cancelled)]
        cancelled.cancel()
        seen += list(cancelled)
        assert len(seen) <= 3
        assert {chunk["choices"][0]["finish_reason"] for chunk in seen} == {None}


def test_a_stream_that_failed_has_ended() -> None:
    closing = BitNetModel()
    stream = closing.create_completion(ONCE, seed=3, stream=True)
    next(stream)
    closing.close()
    with pytest.raises(ClosedError):
        list(stream)
    assert list(stream) == []


# ---- chats ----------------------------------------------------------------------------------


def test_a_chat_completion_is_that_of_chat(model: BitNetModel) -> None:
    found = model.create_chat_completion(TALE, max_tokens=20, **CHAT)
    own = replace(LLAMA_COMPLETION, temperature=0.2, seed=1)
    expected = model.chat(TALE, chat_template=TURNS, max_tokens=20, sampling=own).to_dict()
    assert found["id"] != expected["id"]
    for key in ("object", "model", "choices"):
        assert found[key] == expected[key]
    assert found["usage"]["completion_tokens"] == 20
    named = model.create_chat_completion(TALE, max_tokens=1, model="mine", **CHAT)
    assert named["model"] == "mine"


def test_chunks_are_the_chat_completion(model: BitNetModel) -> None:
    whole = model.create_chat_completion(TALE, max_tokens=30, **CHAT)
    chunks = list(model.create_chat_completion(TALE, max_tokens=30, stream=True, **CHAT))
    assert content_of(chunks) == whole["choices"][0]["message"]["content"]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert all(list(delta) == ["content"] for delta in deltas[1:-1])
    assert (deltas[-1], chunks[-1]["choices"][0]["finish_reason"]) == ({}, "length")


def test_reasoning_and_calls_have_places_of_their_own_in_chunks() -> None:
    calls = [{"id": id, "type": "function", "function": {"name": "f"}} for id in ("a", "b", "c")]
    chunks = ChatCompletionChunks("mine")
    found = [
        chunks.of(ChatDelta("", "hm", calls[:2]))["choices"][0]["delta"],
        chunks.of(ChatDelta("so", "", calls[2:]))["choices"][0]["delta"],
    ]
    first, second, third = ({"index": index, **call} for index, call in enumerate(calls))
    assert found == [
        {"reasoning_content": "hm", "tool_calls": [first, second]},
        {"content": "so", "tool_calls": [third]},
    ]


def test_parts_of_a_content_are_one_text(model: BitNetModel) -> None:
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a tale."}]
    found, expected = (
        model.create_chat_completion([{"role": "user", "content": content}], max_tokens=5, **CHAT)
        for content in (parts, "Tell me\na tale.")
    )
    assert found["choices"] == expected["choices"]
    image = [{"type": "image_url", "image_url": {"url": "a"}}]
    problem = r"messages[0]['content'][0]['type'] must be one of 'text', not 'image_url'"
    with pytest.raises(InvalidParameterError, match=re.escape(problem)):
        model.create_chat_completion([{"role": "user", "content": image}], **CHAT)


def test_tool_choice_says_whether_the_model_learns_of_tools(model: BitNetModel) -> None:
    def prompt_tokens(**options: Any) -> int:
        found = model.create_chat_completion(TALE, max_tokens=1, **CHAT, **options)
        tokens: int = found["usage"]["prompt_tokens"]
        return tokens

    without = prompt_tokens()
    assert prompt_tokens(tools=[TOOL]) > without
    assert prompt_tokens(tools=[TOOL], tool_choice="auto") > without
    assert prompt_tokens(tools=[TOOL], tool_choice="none") == without


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_call_cannot_be_forced_yet(model: BitNetModel, choice: Any) -> None:
    with pytest.raises(UnsupportedFeatureError, match="cannot make a model call a tool"):
        model.create_chat_completion(TALE, tools=[TOOL], tool_choice=choice, **CHAT)
    with pytest.raises(InvalidParameterError, match="but there are no tools"):
        model.create_chat_completion(TALE, tool_choice=choice, **CHAT)


# ---- log probabilities ----------------------------------------------------------------------


@dataclass
class Token:
    bytes: bytes
    logprob: float
    top: tuple[Token, ...] = ()

    @property
    def text(self) -> str:
        return self.bytes.decode("utf-8", "replace")


def test_log_probabilities_have_the_form_of_text_completions() -> None:
    euro = "€".encode()
    best = Token(b" a", -0.1)
    found = [
        Token(b" the", -2.0, (best, Token(b" b", -1.0))),
        Token(euro[:2], -0.5, (Token(euro[:2], -0.5),)),
        Token(euro[2:], -0.25, ()),
        Token(b"!", -0.75, (Token(b"!", -0.75), Token(b"?", -3.0))),
    ]
    assert completion_logprobs(found, 10) == {
        "tokens": [" the", "\ufffd", "\ufffd", "!"],
        "token_logprobs": [-2.0, -0.5, -0.25, -0.75],
        "text_offset": [10, 14, 14, 15],
        "top_logprobs": [
            {" a": -0.1, " b": -1.0, " the": -2.0},
            {"\ufffd": -0.5},
            {"\ufffd": -0.25},
            {"!": -0.75, "?": -3.0},
        ],
    }
    assert completion_logprobs(None, 10) is None


def test_log_probabilities_are_those_of_generate(model: BitNetModel) -> None:
    own: Any = {"max_tokens": 6, "temperature": 0, "logprobs": 2}
    expected: Any = model.generate(ONCE, return_result=True, **own)
    for prompt in (ONCE, model.tokenize(ONCE)):
        (choice,) = model.create_completion(prompt, **own)["choices"]
        found = choice["logprobs"]
        assert found == completion_logprobs(expected.logprobs, len(ONCE))
        assert "".join(found["tokens"]) == choice["text"]
        whole = ONCE + choice["text"]
        for offset, text in zip(found["text_offset"], found["tokens"], strict=True):
            assert whole[offset:].startswith(text)
    (choice,) = model.create_chat_completion(
        TALE, **CHAT, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == choice["message"]["content"]
    assert [len(each["top_logprobs"]) for each in content] == [3] * 4


def test_biases_and_processors_are_passed_on(model: BitNetModel) -> None:

    def first(**options: Any) -> str:
        text = model.create_completion(ONCE, max_tokens=1, temperature=0, **options)
        found: str = text["choices"][0]["text"]
        return found

    def without(_tokens: Any, logits: Any) -> Any:
        changed = logits.copy()
        changed[440] = -1e9
        return changed

    (token,) = model.tokenize(first(), add_special_tokens=False)
    assert token == 440
    assert first() != first(logit_bias={"440": -100}) == first(logit_bias={440: -100})
    assert first(logits_processor=[without]) == first(logit_bias={440: -100})


# ---- errors come before any work ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_token": 3}, "max_token is no argument of create_completion; did you mean max_tok"),
        ({"repetition_penalty": 2}, "repetition_penalty is no argument of create_completion; did"),
        ({"tools": []}, "tools is no argument of create_completion; "),
        ({"zqxjkv": 1}, "zqxjkv is no argument of create_completion; they are model, "),
        ({"repeat_penalty": -1}, "repeat_penalty must be in [0.01, 100], not -1"),
        ({"temperature": -1}, "temperature must be in [0, 100], not -1"),
        ({"top_k": "x"}, "top_k must be an integer, not 'x'"),
        ({"max_tokens": 1.5}, "max_tokens must be an integer, not 1.5"),
        ({"seed": -2}, "seed must be in 0..18446744073709551615, not -2"),
        ({"stop": 3}, "stop must be a str or a sequence of str, not 3"),
        ({"stream": 1}, "stream must be True or False, not 1"),
        ({"echo": "no"}, "echo must be True or False, not 'no'"),
        ({"model": 3}, "model must be a str, not 3"),
        ({"n": 0}, "n must be in 1..2147483648, not 0"),
        ({"logprobs": True}, "logprobs must be an integer, not True"),
        ({"logprobs": 21}, "logprobs must be in 0..20, not 21"),
        ({"logit_bias": [1]}, "logit_bias must be a mapping from token ids to numbers, not [1]"),
        ({"logit_bias": {" a": 1}}, "logit_bias has a key that is no token id: ' a'"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream=True"),
        ({"stream": True, "stream_options": {"usage": 1}}, "stream_options must be {"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options['include_usage'] must be True or False, not 1",
        ),
    ],
)
def test_wrong_arguments(model: BitNetModel, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidParameterError, match="^" + re.escape(problem)) as caught:
        model.create_completion(ONCE, **options)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tool_choices": "auto"}, "tool_choices is no argument of create_chat_completion; did"),
        ({"echo": True}, "echo is no argument of create_chat_completion; "),
        ({"logprobs": 2}, "logprobs must be True or False, not 2"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs=True"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs must be in 0..20, not 21"),
        ({"tool_choice": "always"}, "tool_choice must be 'auto', 'none', 'required' or {"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice is {'type': 'function', 'function': {'name': 'g'}}, but tools has 'f'",
        ),
    ],
)
def test_wrong_arguments_of_chats(
    model: BitNetModel, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidParameterError, match="^" + re.escape(problem)):
        model.create_chat_completion(TALE, **{**CHAT, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": " and so on"},
        {"stopping_criteria": [print]},
        {"tfs_z": 0.9},
        {"mirostat_mode": 2},
        {"n": 2},
        {"logprobs": 2, "stream": True},
        {"logprobs": 2, "echo": True},
    ],
)
def test_what_this_version_cannot_do(model: BitNetModel, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFeatureError):
        model.create_completion(ONCE, **options)


def test_old_names_of_tools_are_refused(model: BitNetModel) -> None:
    for options in ({"functions": [TOOL["function"]]}, {"function_call": "auto"}):
        with pytest.raises(UnsupportedFeatureError, match="pass tools="):
            model.create_chat_completion(TALE, **CHAT, **options)  # type: ignore[call-overload]


def test_errors_are_those_of_generate_and_chat(model: BitNetModel) -> None:
    with pytest.raises(ContextOverflowError):
        model.create_completion("tale " * 600)
    with pytest.raises(ChatTemplateError, match="pass Jinja text as chat_template="):
        model.create_chat_completion(TALE)
    closed = BitNetModel()
    closed.close()
    with pytest.raises(ClosedError):
        closed.create_completion(ONCE, stream=True)
    with pytest.raises(ClosedError):
        closed.create_chat_completion(TALE, stream=True, **CHAT)
