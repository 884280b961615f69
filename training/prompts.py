"""Prompts from the text that a model has not read: beginnings of held-out paragraphs."""

from __future__ import annotations

from pathlib import Path

from ryzanstein_llm.errors import InvalidParameterError

__all__ = ["read_prompts", "text_prompts"]

WORDS = 6
CHARACTERS = 40  # a prompt has at most so many
COUNT = 20


def text_prompts(text: str, count: int = COUNT) -> list[str]:
    """At most `count` prompts, from paragraphs spread evenly over `text`, a paragraph a line.

    Short paragraphs, such as headings, are used only if there are no others.
    """
    paragraphs = list(dict.fromkeys(text.splitlines()))
    chosen = [line for line in paragraphs if len(line) >= 2 * CHARACTERS] or paragraphs
    step = max(1, len(chosen) / count)
    spread = [chosen[int(number * step)] for number in range(min(count, len(chosen)))]
    return list(dict.fromkeys(_beginning(line) for line in spread))


def _beginning(line: str) -> str:
    """The first words; of a short line no more than half."""
    words = line.split(" ")
    words = words[: max(1, min(WORDS, len(words) // 2))]
    while len(words) > 1 and len(" ".join(words)) > CHARACTERS:
        words.pop()
    return " ".join(words)[: max(1, min(CHARACTERS, len(line) // 2))]


def read_prompts(path: Path) -> list[str]:
    """The lines of a file, without empty ones.

    Raises
    ------
    OSError
        From reading it.
    InvalidParameterError
        It has none, or is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"{path}: not UTF-8: {error}") from None
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise InvalidParameterError(f"{path}: no prompts, one a line")
    return prompts
