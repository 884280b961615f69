"""A completion in chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from ..chat import ChatStream
from ..text_iterator import TextIterator
from .answers import Chunks

__all__ = ["CompletionStream"]


class CompletionStream(Iterator[dict[str, Any]]):
    """Chunks of a completion as it is generated. The last one has the finish reason, and after it
    comes one with the token counts if `stream_options` asks for it.

    `cancel()`, `close()`, leaving a `with` block, or dropping the stream ends the generation early.
    Then there is no chunk with a finish reason, because OpenAI's API has none for it. Use it from
    one thread at a time; only `cancel` may be called from any thread.
    """

    def __init__(
        self, pieces: TextIterator | ChatStream, chunks: Chunks[Any, Any], *, include_usage: bool
    ) -> None:
        self._pieces, self._chunks = pieces, chunks
        self._include_usage = include_usage
        self._ready = deque(chunks.first())
        self._over = False

    def __next__(self) -> dict[str, Any]:
        if not self._ready and not self._over:
            piece = next(self._pieces, None)
            if piece is None:
                self._end()
            else:
                self._ready.append(self._chunks.of(piece))
        if not self._ready:
            raise StopIteration
        chunk = self._ready.popleft()
        if self._include_usage:
            chunk.setdefault("usage", None)
        return chunk

    def cancel(self) -> None:
        """End the generation soon. May be called from any thread, and does not wait. See
        `TextIterator.cancel`."""
        self._pieces.cancel()

    def close(self) -> None:
        """End the generation and the stream now.

        Raises
        ------
        SessionBusyError
            If another thread is computing the next chunk, and the stream was not cancelled.
        """
        self._pieces.close()
        self._over = True
        self._ready.clear()

    def __enter__(self) -> CompletionStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CompletionStream({self._pieces!r})"

    def _end(self) -> None:
        self._over = True
        try:
            result: Any = self._pieces.result
        except RuntimeError:  # an error ended it, which the chunk before has raised
            return
        if result.finish_reason == "cancelled":
            return
        self._ready.append(self._chunks.last(result))
        if self._include_usage:
            self._ready.append(self._chunks.usage(result))
