"""A session: one sequence of tokens that grows with each request."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any, Unpack

from .claim import Claim
from .engine.engine import Engine
from .errors import ClosedError, SessionBusyError
from .generation import Generation
from .notebook import as_html
from .options import GenerationArguments, GenerationOptions
from .overflow import fitted
from .public_class import public_class
from .saved_session import SessionKey, write_session
from .text.vocabulary import Prompt, Vocabulary
from .text_iterator import TextIterator
from .text_source import TextSource
from .text_table import plural
from .validation import check_int

__all__ = ["Session"]


@public_class
class Session(TextSource):
    """A sequence of tokens that grows with each request. Made by `BitNetModel.session()`.

    Each prompt and its continuation are appended to the tokens of the session. Beginning-of-text
    is added to the first prompt only. Sessions are cheap. Use a session from one thread at a time;
    only `cancel` may be called from any thread.
    """

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        key: SessionKey,
        tokens: Iterable[int] = (),
    ) -> None:
        self._engine, self._vocabulary, self._key = engine, vocabulary, key
        self._tokens: list[int] = list(tokens)
        self._closed = False
        self._claims: dict[str, Claim] = {}  # at most one; `setdefault` takes it atomically
        self._streams: list[weakref.ref[TextIterator]] = []

    @property
    def tokens(self) -> list[int]:
        """A copy of all token ids, prompts and continuations."""
        running = self._running
        return list(self._tokens if running is None else running.tokens or self._tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values that are kept for its tokens, including those that it shares
        with others."""
        _ = self._running
        return 0 if self._closed else self._engine.store.held_bytes(self._tokens)

    def stream(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> TextIterator:
        """As `BitNetModel.stream`: continue a prompt, in pieces. The prompt and what was generated
        are appended to the tokens of the session when the stream ends or is closed."""
        stream = super().stream(prompt, **options)
        self._streams = [each for each in self._streams if each() is not None]
        self._streams.append(weakref.ref(stream))
        return stream

    def cancel(self) -> None:
        """End the running generation soon, also within a long prompt. May be called from any
        thread.

        Its `finish_reason` is "cancelled". Does nothing if no generation is running. A stream
        before its first `next` is not running yet; `TextIterator.cancel` ends it.
        """
        claim = self._claims.get("running")
        running = None if claim is None else claim.generation()
        if running is not None:
            running.cancel()

    def truncate(self, n: int) -> None:
        """Keep only the first `n` tokens.

        Raises
        ------
        InvalidParameterError
            If `n` is negative or more than the number of tokens.
        SessionBusyError
            If the session is generating.
        """
        self._refuse_busy()
        del self._tokens[check_int("n", n, 0, len(self._tokens)) :]

    def fork(self) -> Session:
        """A second session with the same tokens. Both go on from here without computing them again:
        they share full blocks of 256 keys and values, and copy the last one.

        Raises
        ------
        SessionBusyError
            If the session is generating.
        ClosedError
        """
        self._refuse_busy()
        self._refuse_closed()
        self._engine.exclusively(lambda: self._engine.store.fork(self._tokens))
        return Session(self._engine, self._vocabulary, self._key, self._tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tokens, keys and values to a file, for `BitNetModel.load_session`. The file appears
        when it is complete, and replaces an older one.

        Raises
        ------
        SessionBusyError
            If the session is generating.
        CheckpointNotFoundError, FormatError
            If the checkpoint is gone or has changed since the model was opened: then nobody could
            tell later which model the session belongs to.
        WriteError
            If the file cannot be written.
        ClosedError
        """
        self._refuse_busy()
        self._refuse_closed()
        write_session(path, self._key, self._engine, list(self._tokens))

    def close(self) -> None:
        """Free its keys and values, and end its streams. Closing twice is fine.

        Raises
        ------
        SessionBusyError
            If another thread is generating. If its stream was cancelled, `close` waits for it
            instead.
        """
        for reference in self._streams:
            stream = reference()
            if stream is not None:
                stream.close()
        self._refuse_busy()
        if not self._closed:
            self._closed = True
            self._engine.forget(self._tokens)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return "Session(closed)"
        state = "idle" if self._running is None else "generating"
        return f"Session({plural(len(self.tokens), 'token')}, {state})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def __reduce__(self) -> Any:
        raise TypeError("a Session cannot be pickled; keep its tokens and generate from them")

    # ---- as the owner of generations -------------------------------------------------------

    def claim(self, claim: Claim) -> list[int]:
        """See `generation.Owner`."""
        _ = self._running
        if self._claims.setdefault("running", claim) is not claim:
            raise SessionBusyError(
                "the session is in use by another thread (give each thread a session of its own) "
                "or by a stream that has not ended (close the stream first)"
            )
        self._refuse_closed()
        return self._tokens

    def settle(self, claim: Claim, tokens: list[int] | None) -> None:
        """See `generation.Owner`."""
        if self._claims.get("running") is claim:
            if tokens is not None:
                self._tokens = list(tokens)
            del self._claims["running"]  # no call between: Ctrl-C comes before both or after both

    def _start(
        self, prompt: Prompt, arguments: GenerationArguments, *, needs_text: bool
    ) -> Generation:
        _ = self._engine.graph  # ClosedError
        _ = self._running
        options = GenerationOptions.from_arguments(arguments)
        self._vocabulary.refuse_text(needs_text or bool(options.stop))
        ids = self._vocabulary.read_prompt(prompt, any_length=options.overflow != "error")
        given, start_id = ids.after(self._tokens), self._vocabulary.start_id
        fitted(given, options, self._engine, start_id, len(self._tokens))
        return Generation(self._engine, self._vocabulary, ids, options, self)

    @property
    def _running(self) -> Generation | None:
        """The generation that continues its tokens. Takes over what one left whose stream was
        dropped, so everything but `cancel` looks here first."""
        claim = self._claims.get("running")
        if claim is None:
            return None
        generation: Generation | None = claim.generation()
        if generation is None:
            self.settle(claim, claim.tokens)
        elif generation.over:  # it was interrupted while it gave the tokens back
            self.settle(claim, None)
        else:
            return generation
        return None

    def _refuse_closed(self) -> None:
        _ = self._engine.graph  # ClosedError
        if self._closed:
            raise ClosedError("the session is closed")

    def _refuse_busy(self) -> None:
        if self._running is not None:
            raise SessionBusyError("the session is generating; cancel() stops it")
