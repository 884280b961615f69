"""How much longer the steps of a tokenizer can make a text. Forty that double it would ask for more
memory than any machine has."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["growth"]

BYTES = 4
"""Of one character in UTF-8. A step called ByteLevel makes each a character."""


def growth(steps: Sequence[Mapping[str, Any]], *, decoder: bool, most: float) -> float:
    """Characters that may become of one, or of an empty text. It is never less than that.

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
            old = pattern.get("String") if isinstance(pattern, Mapping) else None
            self._replace(old, self._of(content))
        elif isinstance(step.get("suffix"), str):  # of words, in a decoder
            self._replace(step["suffix"], self._of(" "))
        elif isinstance(charsmap, str):
            self._multiply(_longest(charsmap))
        elif kind == "ByteLevel" and not decoder:
            self._multiply(BYTES)
        elif kind == "Metaspace" and not decoder:
            self._insert(self._of(str(step.get("replacement"))))
        elif kind == "WordPiece":
            self._start += self._of(" ")
        for key in ("prepend", "append"):
            if isinstance(step.get(key), str):
                self._start += self._of(step[key])

    def _of(self, text: str) -> float:
        return sum(self._own.get(each, self._others) for each in text)

    def _replace(self, old: Any, weight: float) -> None:
        if not isinstance(old, str) or not old:  # a regular expression may match anywhere
            self._insert(weight)
            return
        part = weight / len(old)
        for each in set(old):
            self._own[each] = max(self._own.get(each, self._others), part)
        self._most = max(self._most, part)

    def _insert(self, weight: float) -> None:
        if weight:
            self._others += weight
            self._most += weight
            self._start += weight
            self._own = {each: own + weight for each, own in self._own.items()}

    def _multiply(self, factor: int) -> None:
        self._most *= factor
        self._others, self._own = self._most, {}


def _longest(charsmap: str) -> int:
    """The longest text in a table of replacements, which ends with them, each with a NUL."""
    data = base64.b64decode(charsmap)
    texts = data[4 + int.from_bytes(data[:4], "little") // 4 * 4 :]
    return max(1, max(len(each.decode("utf-8")) for each in texts.split(b"\0")))
