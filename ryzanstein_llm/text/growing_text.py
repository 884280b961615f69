"""The text of a continuation, as its tokens come."""

from __future__ import annotations

from collections.abc import Iterable

from .stop_strings import StopStrings
from .vocabulary import Vocabulary

__all__ = ["GrowingText"]


class GrowingText:
    """Pieces of text, up to a stop string; for one text, then discarded.

    Parameters
    ----------
    vocabulary : Vocabulary
        Without a tokenizer there are no pieces.
    stop : iterable of str
    tokens : iterable of int, optional
        Those that came before.

    Attributes
    ----------
    pieces : list of str
        None is empty. Only grows, so that another thread may read them meanwhile.
    """

    def __init__(
        self, vocabulary: Vocabulary, stop: Iterable[str], tokens: Iterable[int] = ()
    ) -> None:
        self.pieces: list[str] = []
        self._stream = vocabulary.text_stream()
        self._stops = StopStrings(stop)
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """One more token."""
        if self._stream is not None:
            self._say(self._stops.push(self._stream.push(token)))

    def flush(self) -> None:
        """No more tokens come: what was held back is certain now."""
        if self._stream is not None:
            self._say(self._stops.push(self._stream.flush()) + self._stops.flush())

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._stops.matched is not None

    @property
    def text(self) -> str | None:
        """All pieces; None without a tokenizer."""
        return None if self._stream is None else "".join(self.pieces)

    def _say(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)
