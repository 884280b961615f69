"""A folder of text files: cleaned, one paragraph a line, and divided into what is trained on and
what is held out."""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

from ryzanstein_llm.errors import CheckpointNotFoundError, InvalidParameterError

from .held_out import hold_out, without_repeats
from .words import count, size

__all__ = ["Corpus", "clean", "read_corpus"]

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
    places : int
        So many blocks of the texts are held out; 0: a file is.
    empty : tuple of str
        Names of files without text.
    digest : str
        Of all of it.
    """

    training: dict[str, str]
    validation: str
    places: int
    empty: tuple[str, ...]
    digest: str

    @property
    def facts(self) -> dict[str, int]:
        """Numbers of files and bytes, for people."""
        return {
            "files": len(self.training),
            "training_bytes": sum(len(text.encode()) for text in self.training.values()),
            "held_out_bytes": len(self.validation.encode()),
            "held_out_places": self.places,
        }

    def __str__(self) -> str:
        training, held_out = (
            size(self.facts[name]) for name in ("training_bytes", "held_out_bytes")
        )
        where = f" in {count(self.places, 'place')}" if self.places else ""
        return (
            f"{count(len(self.training), 'file')}, {training} to train on; {held_out}{where} held "
            "out"
        )


def read_corpus(folder: Path, validation: str | None) -> Corpus:
    """Read all `*.txt` of a folder (UTF-8), except a `README.txt`.

    Parameters
    ----------
    validation
        Name of the file that is held out. None: about a twentieth of the text, in blocks of
        paragraphs from everywhere in the texts; see `held_out.py`.

    Raises
    ------
    CheckpointNotFoundError
        There is no such folder, no text file in it, or no such validation file.
    InvalidParameterError
        The folder is a file, a file is not UTF-8, or there is too little text.
    """
    texts = _read(folder)
    if not any(texts.values()):
        raise InvalidParameterError(f"{folder}: no text in its {count(len(texts), 'file')}")
    if validation is None:
        divided = hold_out(texts)
        if divided is None:
            raise InvalidParameterError(
                f"{folder}: cannot hold out a twentieth of {_paragraphs(texts)}: add texts, set "
                "paragraphs apart by blank lines, or name a file with --validation"
            )
        kept, blocks = divided
        held_out, places = "".join(blocks), len(blocks)
    elif validation in texts:
        kept = {name: text for name, text in texts.items() if name != validation}
        held_out, places = texts[validation], 0
        if not held_out:
            raise InvalidParameterError(f"{folder / validation}: no text to validate with")
    else:
        raise CheckpointNotFoundError(f"{folder}: no file {validation!r} to validate with")
    training = {name: without_repeats(text, held_out) for name, text in kept.items()}
    training = {name: text for name, text in training.items() if text}
    if not training:
        raise InvalidParameterError(f"{folder}: no text to train on besides {validation}")
    digest = hashlib.blake2b(digest_size=16)
    for part in (*training.values(), held_out):
        digest.update(part.encode() + b"\0")
    empty = tuple(name for name, text in texts.items() if not text)
    return Corpus(training, held_out, places, empty, digest.hexdigest())


def _read(folder: Path) -> dict[str, str]:
    """Cleaned texts by file name, in the order of names."""
    if not folder.exists():
        raise CheckpointNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise InvalidParameterError(f"{folder}: is a file; name the folder of the .txt files")
    paths = sorted(path for path in folder.glob("*.txt") if path.stem.upper() != "README")
    if not paths:
        raise CheckpointNotFoundError(f"{folder}: no .txt files in this folder")
    texts = {}
    for path in paths:
        try:
            texts[path.name] = clean(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidParameterError(f"{path}: not UTF-8: {error}") from error
    return texts


def _paragraphs(texts: dict[str, str]) -> str:
    lengths = [len(line) for text in texts.values() for line in text.splitlines()]
    longest = max(lengths) / sum(lengths)
    return (
        f"{count(len(lengths), 'paragraph')} in {count(len(texts), 'file')} (the longest is "
        f"{longest:.0%} of the text)"
    )


def clean(text: str) -> str:
    """One paragraph a line, without what is not prose.

    The header and footer of Project Gutenberg's files are removed, with everything beyond them.
    Paragraphs that were wrapped and set apart by blank lines are joined. Entities of HTML, tabs,
    typographic quotes and dashes become plain characters, and the few missing spaces after a
    comma or semicolon are put back, because a small model repeats such things.
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
