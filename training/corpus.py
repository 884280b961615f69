"""A folder of text files: cleaned, one paragraph a line, and split into training and validation."""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

from ryzanstein_llm.errors import CheckpointNotFoundError, InvalidParameterError

__all__ = ["Corpus", "clean", "read_corpus"]

# Without a validation file, so much of the end of every file is held out.
HELD_OUT = 0.05

_FRAME = r"^\*\*\* ?{} OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$"
_START = re.compile(_FRAME.format("START"), re.M | re.I)
_END = re.compile(_FRAME.format("END"), re.M | re.I)
_ASCII = str.maketrans(
    {
        "\u2018": "'",  # quotes
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",  # dashes
        "\u2014": "--",
        "\u2026": "...",
        "\u00a0": " ",  # no-break space
        "\ufeff": None,  # byte order mark
    }
)


@dataclass(frozen=True)
class Corpus:
    """
    Attributes
    ----------
    training : dict of str to str
        Text of each file, by name; cleaned.
    validation : str
        The held-out text.
    digest : str
        Of all of it.
    """

    training: dict[str, str]
    validation: str
    digest: str


def read_corpus(folder: Path, validation: str | None) -> Corpus:
    """Read all `*.txt` of a folder (UTF-8), but a `README.txt`.

    Parameters
    ----------
    validation
        Name of the file that is held out. None: the last twentieth of every file.

    Raises
    ------
    CheckpointNotFoundError
        There is no such folder, no text in it, or no such validation file.
    InvalidParameterError
        A file is not UTF-8, or all of the text is held out.
    """
    paths = sorted(path for path in folder.glob("*.txt") if path.stem.upper() != "README")
    if not paths:
        raise CheckpointNotFoundError(f"{folder}: no .txt files")
    texts = {}
    for path in paths:
        try:
            texts[path.name] = clean(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidParameterError(f"{path}: not UTF-8: {error}") from error
    if validation is None:
        ends = {name: _end(text) for name, text in texts.items()}
        held_out = "".join(text[ends[name] :] for name, text in texts.items())
        texts = {name: text[: ends[name]] for name, text in texts.items()}
    elif validation in texts:
        held_out = texts.pop(validation)
    else:
        raise CheckpointNotFoundError(f"{folder}: no validation file {validation!r}")
    texts = {name: text for name, text in texts.items() if text}
    if not texts or not held_out:
        raise InvalidParameterError(f"{folder}: too little text to train on and to validate with")
    digest = hashlib.blake2b(digest_size=16)
    for part in (*texts.values(), held_out):
        digest.update(part.encode() + b"\0")
    return Corpus(texts, held_out, digest.hexdigest())


def _end(text: str) -> int:
    """Where the held-out end of a text begins: after a paragraph."""
    return text.rfind("\n", 0, int(len(text) * (1 - HELD_OUT)) + 1) + 1


def clean(text: str) -> str:
    """One paragraph a line, without what is not prose.

    The header and footer that Project Gutenberg's files have go, with everything beyond them.
    Paragraphs that were wrapped and set apart by blank lines are joined. Entities of HTML, tabs,
    typographic quotes and dashes become plain characters, and the few missing spaces after a
    comma or semicolon are put back, for a small model repeats such things.
    """
    if start := _START.search(text):
        text = text[start.end() :]
    if end := _END.search(text):
        text = text[: end.start()]
    text = html.unescape(html.unescape(text)).translate(_ASCII)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    # Without blank lines every line is a paragraph already.
    paragraphs = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text) else text.split("\n")
    joined = (" ".join(paragraph.split()) for paragraph in paragraphs)
    spaced = (re.sub(r"(?<=[a-z][,;])(?=[A-Za-z])", " ", line) for line in joined)
    return "".join(f"{line}\n" for line in spaced if line)
