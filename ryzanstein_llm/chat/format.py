"""How to talk with a model through one chat template: what it is given, and what ends an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ChatTemplateError, FormatError, InvalidParameterError
from ..text.chat_prompt import ANSWER_TAGS, ChatPrompt, ChatPrompts
from ..text.chat_template import ChatTemplate, named_templates, special_token_texts
from ..text.reasoning import TAGS, ReasoningParser, reasoning_tags
from ..text.tokenizer import Tokenizer
from ..text.tool_calls import CallsInstead, tool_call_parser, tool_call_tag
from ..text.vocabulary import Vocabulary
from .answer import AnswerParser
from .messages import ROLES

__all__ = ["ChatFormat", "checkpoint_name", "choose_template"]

TEMPLATE_FILES = (".jinja", ".jinja2", ".j2", ".txt", ".json")

PROBE = "zqxjkv"
"""A text that no template contains."""


def checkpoint_name(path: Path) -> str:
    """What results call a model: the name of its folder, or of the one file that has all of it.

    Parameters
    ----------
    path : Path
        Of a folder, of its weights, or of that file.
    """
    return path.parent.name if path.suffix == ".safetensors" else path.name


def choose_template(
    vocabulary: Vocabulary, default: str | None, wanted: str | None, *, tools: bool
) -> str:
    """The source of the template to use.

    Parameters
    ----------
    vocabulary : Vocabulary
    default : str or None
        The checkpoint's template.
    wanted : str or None
        What the caller asks for: Jinja, or the name of one of several templates of the checkpoint.
    tools : bool
        Whether there are tools. For them, some checkpoints have a template "tool_use".

    Raises
    ------
    ChatTemplateError
        The checkpoint has no template, or several and no default.
    """
    tokenizer = vocabulary.tokenizer
    named = {} if tokenizer is None else named_templates(tokenizer.config)
    if wanted is not None:
        if isinstance(wanted, Path) or (wanted not in named and _is_path(wanted)):
            problem = f"must be the text of a template, not its path {str(wanted)!r}; read the file"
            raise InvalidParameterError(problem, "chat_template")
        if not isinstance(wanted, str):
            raise InvalidParameterError(f"must be a str, not {wanted!r}", "chat_template")
        if wanted not in named and "{" not in wanted:  # it would drop all messages
            known = f"; the checkpoint has {', '.join(map(repr, named))}" if named else ""
            problem = f"is neither Jinja text nor the name of a template{known}: {wanted!r}"
            raise InvalidParameterError(problem, "chat_template")
        return named.get(wanted, wanted)
    if tools and "tool_use" in named:
        return named["tool_use"]
    if default is not None:
        return default
    names = ", ".join(map(repr, named))
    several = f"has several chat templates and no default; name one of {names}"
    problem = several if named else "has no chat template; pass Jinja text"
    raise ChatTemplateError(
        f"{vocabulary.path}: the checkpoint {problem} as chat_template=, or use generate() to "
        "continue a text"
    )


class ChatFormat:
    """One template with one tokenizer. Several threads may use it at once.

    Attributes
    ----------
    vocabulary : Vocabulary
        For answers: end-of-turn tokens of the template end a text, and tags that are special tokens
        are part of it.
    roles : tuple of str
        Roles that messages may have.
    prompts : ChatPrompts
    name : str
        The name of the checkpoint.
    """

    def __init__(self, source: str, vocabulary: Vocabulary) -> None:
        vocabulary.refuse_text(True)
        tokenizer = vocabulary.tokenizer
        assert tokenizer is not None
        template = ChatTemplate(source, special_token_texts(tokenizer.config))
        self.prompts = ChatPrompts(template, tokenizer, vocabulary.refuse_long)
        self._template = template
        self.name = checkpoint_name(vocabulary.path)
        self._tags = reasoning_tags(source)
        quoted = re.findall(r"""role['"]?\]?\s*==\s*['"](\w+)['"]""", source)
        self.roles = tuple(dict.fromkeys([*ROLES, *quoted]))
        self._takes_parts = not self._shows(PROBE) and self._shows([_part(PROBE)])
        tags = {*ANSWER_TAGS, "<|python_tag|>", *(tag for pair in TAGS for tag in pair)}
        self.vocabulary = replace(
            vocabulary,
            eos_ids=tuple(dict.fromkeys([*vocabulary.eos_ids, *self._end_of_turn(tokenizer)])),
            shown=frozenset(tag for tag in tags if tokenizer.is_special(tag)),
        )

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
    ) -> ChatPrompt:
        """The prompt for checked messages.

        Raises
        ------
        ChatTemplateError
            Also if there are tools and the template has no place for them.
        """
        if tools and not self._template.mentions("tools"):
            raise ChatTemplateError("the chat template has no place for tools; pass tools=None")
        known = [self._adapted(message) for message in messages]
        given = {"add_generation_prompt": True, **variables}
        try:
            prompt = self.prompts.make(known, tools=tools, **given)
        except ChatTemplateError:
            if not any("tool_calls" in message for message in known):
                raise
            # Some templates join the arguments to a text. If that is not the reason, this fails for
            # the same reason.
            texts = [_with_text_arguments(message) for message in known]
            prompt = self.prompts.make(texts, tools=tools, **given)
        if not prompt.ids:
            raise ChatTemplateError("the chat template makes an empty text of these messages")
        if max(prompt.ids) >= self.vocabulary.size:
            raise FormatError(
                f"{self.vocabulary.path}: tokenizer.json gives id {max(prompt.ids)}, but the model "
                f"has {self.vocabulary.size} tokens"
            )
        return prompt

    def reasoning_end(self, prompt: ChatPrompt) -> str | None:
        """What ends the reasoning that a prompt begins; None if it does not begin any."""
        return self._tags[1] if prompt.marked.rstrip().endswith(self._tags[0]) else None

    @property
    def tool_call_tag(self) -> str | None:
        """What tool calls begin with; None if some begin without a tag."""
        return tool_call_tag(self._template.source)

    def parser(
        self, prompt: ChatPrompt, *, tools: Collection[str] | None, instead: str | None
    ) -> AnswerParser:
        """A parser for the answer to a prompt.

        Parameters
        ----------
        prompt : ChatPrompt
        tools : collection of str or None
            Their names; None if there are none, and then all of an answer is text.
        instead : str or None
            An answer has calls only if it begins with this tag. None: with or without one.
        """
        opened = self.reasoning_end(prompt) is not None
        calls = tool_call_parser(self._template.source, tools) if tools else None
        if calls is not None and instead is not None:
            calls = CallsInstead(calls, instead)
        return AnswerParser(ReasoningParser(self._tags, open=opened), calls, prompt.marked)

    def spelled(self, ids: Sequence[int]) -> str:
        """The text of ids, with all special tokens."""
        return self.vocabulary.detokenize(ids, skip_special_tokens=False)

    def _adapted(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message in the form that this template takes."""
        found = dict(message)
        if found["role"] == "developer" and not self._template.mentions("developer"):
            found["role"] = "system"
        if self._takes_parts:
            found["content"] = [_part(found["content"])]
        return found

    def _shows(self, content: Any) -> bool:
        """Whether the template prints a content, if it has this form."""
        try:
            text = self._template.render([{"role": "user", "content": content}])
        except ChatTemplateError:
            return False
        return PROBE in text and "{'" not in text

    def _end_of_turn(self, tokenizer: Tokenizer) -> list[int]:
        """The token that the template writes after an answer."""
        content: Any = [_part(PROBE)] if self._takes_parts else PROBE
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
        try:
            text = self._template.render(messages, add_generation_prompt=False)
        except ChatTemplateError:
            return []
        after = text.rpartition(PROBE)[2].lstrip()
        found = sorted((each for each in self.prompts.control if after.startswith(each)), key=len)
        number = tokenizer.token_id(found[-1]) if found else None
        return [] if number is None else [number]


def _is_path(wanted: Any) -> bool:
    """Whether somebody seems to mean the file of a template."""
    return isinstance(wanted, str) and wanted.endswith(TEMPLATE_FILES) and "{" not in wanted


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _with_text_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {
            **call,
            "function": {
                **call["function"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)
