"""The text of a continuation, which grows with its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .stop_strings import StopStrings
from .vocabulary import Vocabulary

__all__ = ["GrowingText"]


class GrowingText:
    """Pieces of text, up to a stop string. Make a new one for each text.

    Parameters
    ----------
    vocabulary : Vocabulary
        Without a tokenizer there are no pieces.
    stop : iterable of str
    before : sequence of int
        The tokens that the text continues: all that stand before it in the sequence.
    tokens : iterable of int
        The first tokens of the text.

    Attributes
    ----------
    pieces : list of str
        No piece is empty. The list only grows, so another thread may read it at the same time.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop: Iterable[str],
        before: Sequence[int] = (),
        tokens: Iterable[int] = (),
    ) -> None:
        self.pieces: list[str] = []
        self._stream = vocabulary.text_stream(before)
        self._stops = StopStrings(stop)
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """Add a token."""
        if self._stream is not None:
            self._say(self._stops.push(self._stream.push(token)))

    def flush(self) -> None:
        """Add the text that was held back. Call it after the last token."""
        if self._stream is not None:
            self._say(self._stops.push(self._stream.flush()) + self._stops.flush())

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._stops.matched is not None

    @property
    def text(self) -> str | None:
        """All pieces together; None if there is no tokenizer."""
        return None if self._stream is None else "".join(self.pieces)

    def _say(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)
