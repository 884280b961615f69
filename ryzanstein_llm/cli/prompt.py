"""Where the prompt, or several texts, come from: the command line, a file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..errors import InvalidParameterError
from .command import spellings

__all__ = ["read_prompt", "read_texts"]

MAX_PROMPT_BYTES = 64 << 20


def read_prompt(
    context: click.Context, words: Sequence[str], text: str | None, file: str | None
) -> str:
    """The prompt, from the one place where it was given.

    Parameters
    ----------
    words : sequence of str
        Arguments that belong to no option; "-" is standard input.
    text : str, optional
        The value of `--prompt`.
    file : str, optional
        The value of `--file`.

    Raises
    ------
    click.UsageError
        If there is none, or more than one.
    InvalidParameterError
        If the file cannot be read, or is not UTF-8.
    """
    if len(words) > 1:
        raise click.UsageError(
            'a prompt of several words needs quotes: "Once upon a time"', context
        )
    given = [f"PROMPT ({word!r})" for word in words]
    given += [spellings(context)[name] for name in ("text", "file") if name in spellings(context)]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other", context)
    if text is not None:
        return text
    if file is not None and file != "-":
        return _read_file(file, given[0])
    if words and words[0] != "-":
        return words[0]
    if given:
        return _read_standard_input(spellings(context).get("file"))
    if sys.stdin is None or sys.stdin.isatty():
        problem = "a prompt is missing: quote it, or use -p, -f or a pipe"
        raise click.UsageError(problem, context)
    prompt = _read_standard_input()
    if not prompt:
        problem = "a prompt is missing, and standard input is empty"
        raise click.UsageError(problem, context)
    return prompt


def read_texts(context: click.Context, words: Sequence[str], file: str | None) -> list[str]:
    """Several texts: the arguments `words`, or each line of the file that `--file` names, or of
    standard input.

    Raises
    ------
    click.UsageError
        If there are none, or they are given twice.
    InvalidParameterError
        If the file cannot be read, or is not UTF-8.
    """
    spelling = spellings(context).get("file")
    if words and spelling is not None:
        raise click.UsageError(f"TEXT ({words[0]!r}) and {spelling} exclude each other", context)
    if file is not None and file != "-":
        return _read_file(file, spelling or "--file").split("\n")
    if words and list(words) != ["-"]:
        return list(words)
    if not words and file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("a text is missing: quote it, or use -f or a pipe", context)
    lines = _read_standard_input(spelling)
    if not lines:
        raise click.UsageError("a text is missing, and standard input is empty", context)
    return lines.split("\n")


def _read_file(path: str, spelling: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        raise InvalidParameterError(f"{path}: {error.strerror or error}", spelling) from None
    return _decoded(raw, path, spelling)


def _read_standard_input(spelling: str | None = None) -> str:
    if sys.stdin is None:
        raise InvalidParameterError("standard input is closed", spelling)
    return _decoded(sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1), "standard input", spelling)


def _decoded(raw: bytes, source: str, spelling: str | None) -> str:
    """Decode UTF-8, whatever the locale, without a byte order mark. CR LF becomes LF. The last
    newline, which editors and `echo` add, is not part of the prompt."""
    if len(raw) > MAX_PROMPT_BYTES:
        problem = f"{source} has more than {MAX_PROMPT_BYTES} bytes, too many for any context"
        raise InvalidParameterError(problem, spelling)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"{source} is not UTF-8: {error}", spelling) from None
    return text.replace("\r\n", "\n").removesuffix("\n")
