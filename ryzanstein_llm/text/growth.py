"""How much longer the steps of a tokenizer can make a text. Forty that double it would ask for more
memory than any machine has."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["charsmap_bytes", "growth"]

BYTES = 4
"""Of one character in UTF-8. A step called ByteLevel makes each a character."""

FORMS = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 2, "BertNormalizer": 4, "Nmt": 1}
"""Characters that these make of one at most (UAX 15, table 13; two of one İ).
BertNormalizer puts spaces around a character, or decomposes it."""

REQUIRED = re.compile(
    r"(?:[^\\\[\](){}|?*+.^$]|\\[nrtsSdDwW]|\\[pP]\{\w+\}|\[\^?(?:[^\\\[\]&]|&(?!&)|\\.)+\])"
    r"(?:\+|\{[1-9]\d*(?:,(?:[1-9]\d*)?)?\})?(?![*?+{]|\(\?#)(?:[^|\\]|\\[^K])*"
)
"""Regular expressions that certainly do not match an empty text: they begin with something that is
there once or more, and there is nothing that could be in its place. The library takes `a{1,0}` for
`a{0,1}`, and what follows a comment, as in `a(?#)*`, for a quantifier of what stands before it."""


def growth(steps: Sequence[Mapping[str, Any]], *, decoder: bool, most: float) -> float:
    """Characters that may become of one, or of an empty text. It is never less than that, but for
    the largest of `FORMS`, which counts only from the second time on: of text as people write it,
    they make little more than it was.

    Parameters
    ----------
    steps : sequence of mapping
        As in `tokenizer.json`, in order, without steps that contain others.
    decoder : bool
        Whether they go from tokens to text.
    most : float
        Where to stop counting.
    """
    counted = _Weights()
    for step in reversed(steps):
        counted.before(step, decoder=decoder)
        if counted.largest > most:
            break
    return counted.largest


class _Weights:
    """What each character becomes in the steps from here to the end.

    Of a replacement, the weight of the new text counts for the characters of the old one in equal
    parts, if that is more than they weigh themselves.
    """

    def __init__(self) -> None:
        self._own: dict[str, float] = {}
        self._others = 1.0  # of characters that are not in `_own`
        self._least = 1.0  # of any character, also of those in `_own`
        self._form = 1  # the largest of `FORMS` so far
        self._most = 1.0  # of any character
        self._start = 0.0  # of what is put before and after every text

    @property
    def largest(self) -> float:
        return max(self._start, self._most)

    def before(self, step: Mapping[str, Any], *, decoder: bool) -> None:
        """Go one step back."""
        kind, content = step.get("type"), step.get("content")
        pattern, charsmap = step.get("pattern"), step.get("precompiled_charsmap")
        if kind == "Replace" and isinstance(content, str):
            pattern = pattern if isinstance(pattern, Mapping) else {}
            expression = pattern.get("Regex")
            if isinstance(expression, str) and REQUIRED.fullmatch(expression):
                self._replace_any(self._of(content))
            else:
                self._replace(pattern.get("String"), self._of(content))
        elif isinstance(step.get("suffix"), str):  # of words, in a decoder
            self._replace(step["suffix"], self._of(" "))
        elif isinstance(charsmap, str):
            self._multiply(_longest(charsmap))
        elif kind == "ByteLevel":  # back, bytes become any character, but not more than before
            self._multiply(1 if decoder else BYTES + (step.get("add_prefix_space") is True))
        elif kind == "Metaspace" and not decoder:
            self._insert(self._of(str(step.get("replacement"))))
        elif kind in ("Metaspace", "CTC"):
            blank = step.get("replacement" if kind == "Metaspace" else "word_delimiter_token")
            self._replace(str(blank), self._of(" "))
        elif kind == "WordPiece":
            self._start += self._of(" ")
        elif isinstance(kind, str) and kind in FORMS:
            self._multiply(min(self._form, FORMS[kind]))
            self._form = max(self._form, FORMS[kind])
        if kind in ("WordPiece", "CTC"):  # where they clean up
            self._replace(" do not", self._of(" don't"))
        for key in ("prepend", "append"):
            if isinstance(step.get(key), str):
                self._start += self._of(step[key])

    def _of(self, text: str) -> float:
        return sum(map(self._weight, text))

    def _weight(self, character: str) -> float:
        return max(self._least, self._own.get(character, self._others))

    def _replace(self, old: Any, weight: float) -> None:
        if not isinstance(old, str) or not old:  # a regular expression may match anywhere
            self._insert(weight)
            return
        part = weight / len(old)
        for each in set(old):
            self._own[each] = max(self._weight(each), part)
        self._most = max(self._most, part)

    def _replace_any(self, weight: float) -> None:
        self._least = max(self._least, weight)
        self._others = max(self._others, weight)
        self._most = max(self._most, weight)

    def _insert(self, weight: float) -> None:
        if weight:
            self._others += weight
            self._least += weight
            self._most += weight
            self._start += weight
            self._own = {each: own + weight for each, own in self._own.items()}

    def _multiply(self, factor: int) -> None:
        self._most *= factor
        self._others, self._own = self._most, {}


def charsmap_bytes(charsmap: str) -> bytes:
    """A table of replacements. Like the library, with or without padding. Raises ValueError."""
    return base64.b64decode(charsmap + "=" * (-len(charsmap) % 4), validate=True)


def _longest(charsmap: str) -> int:
    """The longest text in a table of replacements, which ends with them, each with a NUL."""
    data = charsmap_bytes(charsmap)
    texts = data[4 + int.from_bytes(data[:4], "little") // 4 * 4 :]
    return max(1, max(len(each.decode("utf-8")) for each in texts.split(b"\0")))
