"""From messages to the ids of a prompt, in which what people wrote stays text.

A chat template writes special tokens such as `<|im_end|>`, and the tokenizer turns that text into
one token. If the same characters stand in a message, they must not become that token: otherwise a
quoted document could end the user's turn and speak as the system.

So, before rendering, one character of each special token in a message is replaced by a stand-in,
a private-use character that occurs nowhere else. The template handles the text as before, because
the text has the same length and looks the same to nearly every test. After rendering, whatever
still reads as a special token was written by the template. Then the stand-ins are replaced by
their characters, and this text is encoded without recognising special tokens.

The ends of each text have stand-ins too, where they could complete a special token together with
what the template or another text puts beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .chat_template import TOKEN_VARIABLES, ChatTemplate
from .ordinary_text import OrdinaryText
from .tokenizer import Tokenizer

__all__ = ["ChatPrompt", "ChatPrompts"]

PRIVATE_USE = range(0xF0000, 0xFFFFE)

# In an answer these have a meaning for the template, and the model wrote them.
ANSWER_TAGS = (
    "<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "[TOOL_CALLS]",
)  # fmt: skip

# Templates compare these values, so that they have stand-ins in whole special tokens only.
COMPARED = ("role", "type")


@dataclass(frozen=True)
class ChatPrompt:
    """
    Attributes
    ----------
    text : str
        What the template made.
    marked : str
        The same with stand-ins.
    ids : list of int
    standins : StandIns
    """

    text: str
    marked: str
    ids: list[int]
    standins: StandIns = field(repr=False)


class ChatPrompts:
    """Makes prompts for one template and one tokenizer. Several threads may use it at once.

    Parameters
    ----------
    refuse : callable, optional
        Is called with the text of a prompt before that is tokenised, and may raise.

    Attributes
    ----------
    template : ChatTemplate
    control : frozenset of str
        Tokens that only the template may write: special tokens, and of other added tokens those
        that its source contains, tags of answers, and those like `<|fim_prefix|>`. Others, such as
        `<table>` of Gemma, are words.
    """

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        self.template = template
        self._tokenizer, self._refuse = tokenizer, refuse
        added = tokenizer.raw.get_added_tokens_decoder().values()
        special = {each.content for each in added if each.special}
        named = {each.content for each in added if _has_meaning(each.content, template)}
        self.control = frozenset(each for each in special | named if each.strip())
        self._everywhere = _Marks(self.control)
        self._in_answers = _Marks((special & self.control) - set(ANSWER_TAGS))
        self._ordinary = OrdinaryText(tokenizer, self.control)

    def make(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **arguments: Any,
    ) -> ChatPrompt:
        """The prompt for a conversation.

        Raises
        ------
        ChatTemplateError
            See `ChatTemplate.render`.
        """
        texts = list(_texts([messages, tools, arguments]))
        standins = StandIns([*texts, self.template.source], self._everywhere.replaced)
        kept = {name: value for name, value in arguments.items() if name in TOKEN_VARIABLES}
        marked = self.template.render(
            [self._marks(message.get("role")).apply(message, standins) for message in messages],
            tools=self._everywhere.apply(tools, standins),
            add_generation_prompt=add_generation_prompt,
            **{**self._everywhere.apply(arguments, standins), **kept},
        )
        text = standins.restore(marked)
        if self._refuse is not None:
            self._refuse(text)
        return ChatPrompt(text, marked, self._encode(marked, standins), standins)

    def continued(self, prompt: ChatPrompt, marked: str, ids: list[int]) -> ChatPrompt:
        """The same prompt, but with these ids for its beginning, if that is the text `marked`. A
        model may spell a text with other tokens than the tokenizer would."""
        rest = prompt.marked.removeprefix(marked)
        if not prompt.marked.startswith(marked):
            return prompt
        if rest and not any(rest.startswith(token) for token in self.control):
            return prompt  # the ids of the rest depend on what stands before it
        return replace(prompt, ids=ids + self._encode(rest, prompt.standins))

    def _encode(self, marked: str, standins: StandIns) -> list[int]:
        """The ids of a text with stand-ins."""
        if not standins.found_in(marked):
            return self._tokenizer.encode(marked, add_special_tokens=False)
        return self._ordinary.encode(marked, standins.found_in, standins.restore)

    def _marks(self, role: Any) -> _Marks:
        return self._in_answers if role == "assistant" else self._everywhere


def _has_meaning(token: str, template: ChatTemplate) -> bool:
    bars = token.startswith("<|") and token.endswith("|>")
    return bars or token in ANSWER_TAGS or template.mentions(token)


class StandIns:
    """Private-use characters that occur in none of `texts`, one for each of `characters`."""

    def __init__(self, texts: Iterable[str], characters: Iterable[str]) -> None:
        used = {character for text in texts for character in text if character >= "\U000f0000"}
        free = (chr(code) for code in PRIVATE_USE if chr(code) not in used)
        self._of = dict(zip(sorted(set(characters)), free, strict=False))
        self._characters = {standin: character for character, standin in self._of.items()}
        self._any = re.compile(
            "[" + "".join(self._characters) + "]" if self._characters else "(?!)"
        )
        # as `tojson` writes them if a template asks for ASCII
        self._escaped = {_escape(each): character for each, character in self._characters.items()}

    def of(self, character: str) -> str:
        """The stand-in of a character."""
        return self._of[character]

    def found_in(self, text: str) -> bool:
        """Whether a text has stand-ins."""
        return self._any.search(text) is not None or (
            "\\udb" in text and any(escaped in text for escaped in self._escaped)
        )

    def restore(self, text: str) -> str:
        """The text with its own characters."""
        text = self._any.sub(lambda found: self._characters[found[0]], text)
        if "\\udb" in text:
            for escaped, character in self._escaped.items():
                text = text.replace(escaped, character)
        return text


class _Marks:
    """Puts stand-ins into texts, for a set of tokens."""

    def __init__(self, tokens: Iterable[str]) -> None:
        listed = sorted(tokens, key=lambda each: (-len(each), each))
        self._token = re.compile("|".join(map(re.escape, listed)) if listed else "(?!)")
        self._beginnings = {each[:size] for each in listed for size in range(1, len(each))}
        self._endings = {each[-size:] for each in listed for size in range(1, len(each))}
        self._longest = max(map(len, listed), default=0)
        self.replaced = {each[0] for each in listed} | {each[-1] for each in listed}
        self.replaced |= {each[-1] for each in self._endings} | {
            each[0] for each in self._beginnings
        }

    def apply(self, value: Any, standins: StandIns) -> Any:
        """A copy of a value with stand-ins in its texts."""
        if isinstance(value, str):
            return self._mark(value, standins, ends=True)
        if isinstance(value, Mapping):
            return {
                self._mark(key, standins, ends=False) if isinstance(key, str) else key: (
                    self._mark(each, standins, ends=False)
                    if key in COMPARED and isinstance(each, str)
                    else self.apply(each, standins)
                )
                for key, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.apply(each, standins) for each in value]
        return value

    def _mark(self, text: str, standins: StandIns, *, ends: bool) -> str:
        places = set()
        found = self._token.search(text)
        while found:
            places.add(found.start())
            found = self._token.search(text, found.start() + 1)  # tokens may overlap
        for size in range(1, min(self._longest, len(text) + 1) if ends else 1):
            if text[-size:] in self._beginnings:
                places.add(len(text) - size)
            if text[:size] in self._endings:
                places.add(size - 1)
        if not places:
            return text
        characters = list(text)
        for place in places:
            characters[place] = standins.of(characters[place])
        return "".join(characters)


def _texts(value: Any) -> Iterable[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _escape(character: str) -> str:
    pair = character.encode("utf-16-be")
    return "".join(f"\\u{pair[index : index + 2].hex()}" for index in (0, 2))
