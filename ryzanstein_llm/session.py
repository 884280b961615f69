"""A session: one sequence of tokens and its cache, over weights that all sessions share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from .errors import ClosedError, SessionBusyError
from .generation import GenerationResult, TokenLoop
from .kv_cache import KVCache
from .notebook import as_html
from .runner import CancelFlag
from .sampling import Sampler, SamplingParams
from .stop_strings import StopStrings
from .text_iterator import Outcome, TextIterator
from .text_table import plural
from .validation import check_int

if TYPE_CHECKING:
    from .model import BitNetModel
    from .request import Request

__all__ = ["Prompt", "Session"]

Prompt = str | Sequence[int]


class Session:
    """One conversation with a model. Made by `BitNetModel.session()`.

    A prompt is appended to what the session holds already, and the continuation after it.
    The beginning-of-text token is added to the first prompt only. Cheap to make; use one
    from one thread at a time (`cancel` may be called from any).
    """

    def __init__(self, model: BitNetModel) -> None:
        self._model = model
        self._cache: KVCache | None = model.new_cache()
        self._tokens: list[int] = []
        self._busy = threading.Lock()
        self._cancel: CancelFlag | None = None  # of the generation that runs
        self._streams: weakref.WeakSet[TextIterator] = weakref.WeakSet()

    @property
    def tokens(self) -> list[int]:
        """A copy of all token ids, prompts and continuations."""
        return list(self._tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return 0 if self._cache is None else self._cache.nbytes

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        sampling: SamplingParams | None = None,
        return_result: bool = False,
        **sampling_options: Any,
    ) -> Any:
        """Append a prompt and generate. Parameters, return and errors as `BitNetModel.generate`.

        Raises
        ------
        SessionBusyError
            If the session is generating in another thread, or a stream of it has not ended.
        """
        stream = self._start(
            prompt, max_tokens, stop, ignore_eos, sampling, sampling_options, return_result
        )
        text = "".join(stream)
        return stream.result if return_result else text

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        sampling: SamplingParams | None = None,
        **sampling_options: Any,
    ) -> TextIterator:
        """Like `generate`, piece by piece. Arguments are checked now, not at the first piece."""
        return self._start(prompt, max_tokens, stop, ignore_eos, sampling, sampling_options, False)

    def cancel(self) -> None:
        """End the running generation soon, also during a long prompt; from any thread.

        Its `finish_reason` is "cancelled". Does nothing if none is running, so not to a stream
        before its first `next`: `TextIterator.cancel` ends that, too.
        """
        running = self._cancel
        if running is not None:
            running[0] = 1

    def truncate(self, n: int) -> None:
        """Keep the first `n` tokens only.

        Raises
        ------
        InvalidParameterError
            If `n` is negative or more than there are.
        """
        with self._claim():
            cache = self._open_cache()
            n = check_int("n", n, 0, len(self._tokens))
            # the cache first: a short one is only slower, stale keys would be wrong
            cache.truncate(min(n, cache.length))
            del self._tokens[n:]

    def close(self) -> None:
        """Free the cache, and end streams that have not ended. Closing twice is fine.

        Raises
        ------
        SessionBusyError
            If another thread is generating, unless its stream was cancelled: then waits for it.
        """
        for stream in list(self._streams):
            stream.close()
        with self._claim():
            self._cache = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._cache is None:
            return "Session(closed)"
        state = "generating" if self._busy.locked() else "idle"
        return f"Session({plural(len(self._tokens), 'token')}, {state}, {self._cache!r})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def __reduce__(self) -> Any:
        raise TypeError("a Session cannot be pickled; keep its tokens and generate from them")

    def _claim(self) -> threading.Lock:
        # A plain lock in a plain `with`: Ctrl-C cannot leave it locked.
        if self._busy.locked():
            raise SessionBusyError(
                "the session is in use: by another thread, which needs a session of its own, "
                "or by a stream that has not ended; close() ends it"
            )
        return self._busy  # two that come at the same moment take turns

    def _open_cache(self) -> KVCache:
        if self._cache is None:
            raise ClosedError("the session is closed")
        return self._cache

    def _start(
        self,
        prompt: Prompt,
        max_tokens: int | None,
        stop: str | Sequence[str] | None,
        ignore_eos: bool,
        sampling: SamplingParams | None,
        sampling_options: dict[str, Any],
        ids_suffice: bool,
    ) -> TextIterator:
        """Checks all arguments now; the iterator does the work."""
        request = self._model.request(
            prompt, max_tokens, stop, ignore_eos, sampling, sampling_options, ids_suffice
        )
        self._check_room(request.new_ids(bool(self._tokens)))
        stream = TextIterator(lambda outcome: self._run_next(request, outcome))
        self._streams.add(stream)
        return stream

    def _check_room(self, ids: list[int]) -> None:
        self._model.check_fits(len(self._tokens) + len(ids))

    def run_from_start(self, request: Request, outcome: Outcome) -> Generator[str, None, None]:
        """Runs a request as if the session were new, keeping the cache of a common prefix."""
        with self._claim():
            cache = self._open_cache()
            ids = request.first_ids
            same = 0
            for old, new in zip(self._tokens, ids, strict=False):
                if old != new:
                    break
                same += 1
            cache.truncate(min(same, cache.length))
            del self._tokens[same:]
            yield from self._run(cache, request, ids[same:], outcome)

    def _run_next(self, request: Request, outcome: Outcome) -> Generator[str, None, None]:
        with self._claim():
            cache = self._open_cache()
            ids = request.new_ids(bool(self._tokens))
            self._check_room(ids)
            yield from self._run(cache, request, ids, outcome)

    def _run(
        self, cache: KVCache, request: Request, ids: list[int], outcome: Outcome
    ) -> Generator[str, None, None]:
        length = len(self._tokens)
        try:
            yield from self._generate(cache, request, ids, outcome)
        except GeneratorExit:
            raise
        except BaseException:
            # an error or Ctrl-C: as if the request had not been made, so that it can be repeated
            cache.truncate(min(length, cache.length))
            del self._tokens[length:]
            raise
        finally:
            self._cancel = None
            self._model.runner.retire()

    def _generate(
        self, cache: KVCache, request: Request, ids: list[int], outcome: Outcome
    ) -> Generator[str, None, None]:
        self._tokens.extend(ids)
        self._cancel = outcome.cancel
        # the last token's logits are wanted, so it is computed again if it is in the cache
        cache.truncate(min(cache.length, len(self._tokens) - 1))
        prompt_tokens, reused = len(self._tokens), cache.length
        room = self._model.context_length - prompt_tokens
        loop = TokenLoop(
            self._model.runner,
            cache,
            self._tokens,
            Sampler(request.sampling, self._tokens),
            max_tokens=min(request.max_tokens, room),
            eos_ids=() if request.ignore_eos else self._model.eos_ids,
            cancel=outcome.cancel,
        )
        text = None if self._model.tokenizer is None else self._model.tokenizer.stream()
        stops = StopStrings(request.stop)
        said: list[str] = []

        def finish(reason: str) -> None:
            outcome.result = GenerationResult(
                text=None if text is None else "".join(said),
                ids=self._tokens[prompt_tokens:],
                finish_reason=reason,
                prompt_tokens=prompt_tokens,
                reused_tokens=reused,
                timings=loop.timings,
            )

        try:
            for token in loop:
                outcome.tokens += 1
                if text is not None and (piece := stops.push(text.push(token))):
                    said.append(piece)
                    yield piece
                if stops.matched is not None:
                    break
            if text is not None:
                rest = stops.push(text.flush()) + stops.flush()
                if rest:
                    said.append(rest)
                    yield rest
        except GeneratorExit:
            finish("cancelled")
            raise
        reason = "stop" if stops.matched is not None else loop.finish_reason
        finish("cancelled" if outcome.cancel[0] else reason)
