"""Stop strings: where a text that comes in pieces has to end."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidParameterError

__all__ = ["StopStrings"]


class StopStrings:
    """Passes text through up to the first stop string. Make a new one for each text.

    The text ends before the stop string that is complete first. If several are complete
    at the same character, the longest counts. So the result depends only on the text,
    not on how it was cut into pieces. Text that may be the beginning of a stop string is
    held back until that is decided.

    Each character takes one step of the Knuth-Morris-Pratt matcher of each stop string.

    Attributes
    ----------
    matched : str or None
        The stop string that ended the text.
    """

    def __init__(self, stop: str | Iterable[str] | None = None) -> None:
        """
        Raises
        ------
        InvalidParameterError
            `stop` has something that is not a str, or an empty string.
        """
        self._matchers = [_Matcher(text) for text in dict.fromkeys(_validated(stop))]
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """The text that is certain after `piece`; empty once `matched` is set."""
        if self.matched is not None:
            return ""
        if not self._matchers:
            return piece
        text = self._held + piece
        for index in range(len(self._held), len(text)):
            complete = [matcher for matcher in self._matchers if matcher.step(text[index])]
            if complete:
                longest = max(complete, key=lambda matcher: len(matcher.text))
                self.matched = longest.text
                self._held = ""
                return text[: index + 1 - len(longest.text)]
        undecided = max(matcher.length for matcher in self._matchers)
        certain = len(text) - undecided
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """The text that is still held back. Call it after the last piece."""
        held, self._held = self._held, ""
        return held


class _Matcher:
    """`length` is the number of characters that end the input and begin `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = 0
        # _shorter[n]: length of the longest proper prefix of text[:n] that also ends it.
        self._shorter = [0, 0]
        for character in text[1:]:
            self._shorter.append(self._advance(self._shorter[-1], character))

    def step(self, character: str) -> bool:
        """Take one more character. Returns whether `text` is complete."""
        self.length = self._advance(self.length, character)
        return self.length == len(self.text)

    def _advance(self, length: int, character: str) -> int:
        while length and self.text[length] != character:
            length = self._shorter[length]
        return length + 1 if self.text[length] == character else 0


def _validated(stop: str | Iterable[str] | None) -> list[str]:
    if stop is None:
        return []
    try:
        texts = [stop] if isinstance(stop, str) else list(stop)
    except TypeError:
        raise InvalidParameterError(
            f"must be a str or a list of str, not {stop!r}", "stop"
        ) from None
    for text in texts:
        if not isinstance(text, str):
            raise InvalidParameterError(f"holds {text!r}, which is not a str", "stop")
        if not text:
            raise InvalidParameterError(
                "holds an empty string, which would match everywhere", "stop"
            )
    return texts
