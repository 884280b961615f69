"""A checkpoint's chat template: from messages to the text that the model was trained on.

Templates are Jinja programs. They are rendered as transformers renders them, with the same
filters, functions and defaults, but within limits of time and size (`bounded_jinja.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from traceback import walk_tb
from typing import Any

from ..errors import ChatTemplateError, MissingExtraError
from .template_budget import Budget, LimitError, budget, check_conversions, weigh

__all__ = ["ChatTemplate", "named_templates", "special_token_texts"]

SECONDS = 5.0
"""CPU time that a template may take. Released ones take some milliseconds."""

CHARACTERS = 1 << 24
"""Characters that a template may make, all intermediate texts together."""

COPIES = 64
"""How many times a template may copy the messages on top of that."""

LARGEST_SOURCE = 1 << 18
"""Characters of a template's source. The longest released one has about 20,000."""

# The names of special tokens in tokenizer_config.json, which templates use as variables
TOKEN_VARIABLES = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip

INSTALL = 'pip install "ryzanstein_llm[chat]"'

# Names of a message's reasoning. The first is the usual one.
REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """One template, compiled. Several threads may render at once.

    Parameters
    ----------
    source : str
        Jinja.
    variables : mapping of str to str, optional
        Texts of special tokens, such as `{"bos_token": "<s>"}`.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    ChatTemplateError
        If the source is not valid Jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.variables = dict(variables or {})
        self._template = _compiled(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **arguments: Any,
    ) -> str:
        """The text of a conversation.

        Parameters
        ----------
        messages : sequence of dict
            Entries whose value is None count as missing. `thinking` and `reasoning` are also given
            to the template as `reasoning_content`, and the first of the three that is there as
            `thinking`.
        tools, documents : sequence of dict, optional
        add_generation_prompt : bool
            Whether the text ends with the beginning of an answer.
        **arguments
            Further variables of the template, such as `enable_thinking`. They replace special
            tokens of the same name.

        Raises
        ------
        ChatTemplateError
            If the template refuses the messages, fails, or goes beyond its limits.
        InvalidParameterError
            If a value is none of those that JSON has.
        """
        values = {
            **self.variables,
            **_plain(arguments),
            "messages": [_message(_plain(message)) for message in messages],
            "tools": _plain(tools),
            "documents": _plain(documents),
            "add_generation_prompt": add_generation_prompt,
        }
        size = _size(values)
        text: str = _guarded(lambda: self._template.render(values), CHARACTERS + COPIES * size)
        return text

    def mentions(self, text: str) -> bool:
        """Whether the source contains `text`."""
        return text in self.source

    def __repr__(self) -> str:
        return f"ChatTemplate({len(self.source):,} characters)"


def named_templates(config: Mapping[str, Any]) -> dict[str, str]:
    """The templates of a tokenizer_config.json by name. If it has only one, that is "default"."""
    found = config.get("chat_template")
    if isinstance(found, str):
        return {"default": found}
    listed = found if isinstance(found, list) else []
    return {
        each["name"]: each["template"]
        for each in listed
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("template"), str)
    }


def special_token_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that a tokenizer_config.json names, such as `{"eos_token": "</s>"}`."""
    found = {name: config.get(name) for name in TOKEN_VARIABLES}
    texts = {
        name: value.get("content") if isinstance(value, Mapping) else value
        for name, value in found.items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


@lru_cache(maxsize=16)
def _compiled(source: str) -> Any:
    if len(source) > LARGEST_SOURCE:
        raise ChatTemplateError(f"the chat template has more than {LARGEST_SOURCE:,} characters")
    environment = _environment()
    return _guarded(lambda: environment.from_string(source), CHARACTERS)


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        found = version("jinja2")
        from .bounded_jinja import BoundedEnvironment
    except ImportError as error:  # PackageNotFoundError is one
        raise MissingExtraError(f"chat templates need jinja2: {INSTALL}") from error
    if [int(part) for part in re.findall(r"\d+", found)[:3]] < [3, 1, 6]:
        raise MissingExtraError(
            f"chat templates need jinja2 3.1.6 or newer, because older ones let a template out of "
            f"the sandbox; found {found}: {INSTALL}"
        )
    environment = BoundedEnvironment()
    environment.add_filter("tojson", _to_json)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _guarded(work: Any, characters: int) -> Any:
    """Run `work` within the limits, and translate what goes wrong."""
    try:
        with Budget(SECONDS, characters):
            return work()
    except ChatTemplateError:
        raise
    except Exception as error:  # a template can raise anything
        line = _line(error)
        where = "the chat template" if line is None else f"the chat template, line {line},"
        what = "recursion without end" if isinstance(error, RecursionError) else str(error)
        raise ChatTemplateError(f"{where} failed: {what or type(error).__name__}") from error


def _line(error: Exception) -> int | None:
    """The line of the template that an error came from."""
    line: int | None = getattr(error, "lineno", None)
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_filename == "<template>":
            line = number
    return line


def _plain(value: Any) -> Any:
    """A copy of what JSON can hold, so that a template can call nothing of ours."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    raise ChatTemplateError(f"chat templates take values that JSON has, not {value!r}")


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the form that most templates understand. Many print a null as "None"."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in REASONING if name in message), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def _size(value: Any) -> int:
    """Characters of all texts in a value, at least one for each entry."""
    if isinstance(value, dict):
        return sum(1 + _size(key) + _size(each) for key, each in value.items())
    if isinstance(value, list):
        return sum(1 + _size(each) for each in value)
    return len(value) if isinstance(value, str) else 8


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson` as transformers has it: without the HTML escapes of Jinja's own."""
    deep = isinstance(indent, str) or (indent is not None and indent > 16)
    budget().spend(weigh(value) + weigh(separators))
    if deep or len(str(separators)) > 60:
        raise LimitError("it asks tojson for a very wide text")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: Any) -> None:
    reason = str(message)[:4000]
    raise ChatTemplateError(f"the chat template refuses this conversation: {reason}", reason)


def _strftime_now(format: Any) -> str:
    check_conversions(str(format))
    return datetime.now().strftime(format)
