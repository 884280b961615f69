"""One request: its sequence in the engine, and the text that its tokens make."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from .claim import Claim, Owner
from .engine.engine import Engine
from .engine.sequence import Sequence
from .options import GenerationOptions
from .overflow import beginning, fitted
from .results import GenerationResult, Timings, TokenLogprob
from .sampling import Logprobs, Sampler
from .text.growing_text import GrowingText
from .text.vocabulary import PromptIds, Vocabulary

__all__ = ["Generation"]


class _Listener:
    """Makes text of the tokens that the engine reports; see `engine.sequence.Listener`. It does not
    know the generation: no cycle keeps a dropped stream until the garbage collector comes.

    Attributes
    ----------
    text : GrowingText
    given : int
        How many of its pieces have been read.
    """

    def __init__(self, vocabulary: Vocabulary, stop: tuple[str, ...]) -> None:
        self._vocabulary, self._stop = vocabulary, stop
        self._before: list[int] = []
        self.text = GrowingText(vocabulary, stop)
        self.given = 0

    def begin_after(self, tokens: Iterable[int]) -> None:
        """The text continues these tokens."""
        self._before = list(tokens)
        self.text = GrowingText(self._vocabulary, self._stop, self._before)

    def add_token(self, token: int) -> bool:
        """Add a token that was chosen. Returns whether it completes a stop string."""
        self.text.push(token)
        return self.text.stopped

    def replace_tokens(self, tokens: list[int]) -> bool:
        """Make the text again from these tokens. Returns whether a stop string is complete. Pieces
        that were read count as read."""
        # in one step, because the reader may look at the pieces at the same time
        self.text = GrowingText(self._vocabulary, self._stop, self._before, tokens)
        return self.text.stopped

    @property
    def unread(self) -> bool:
        """Whether there is a piece that has not been read."""
        return len(self.text.pieces) > self.given


class Generation:
    """One request. The engine reports each token, and the thread that waits for the text reads
    pieces. Computing begins when the first piece is asked for. One that is dropped ends like one
    that is closed: its owner and the engine find out when they are used again.

    Parameters
    ----------
    engine : Engine
    vocabulary : Vocabulary
    prompt : PromptIds
    options : GenerationOptions
    owner : Owner or None
        None: the prompt begins a new sequence.

    Attributes
    ----------
    cancelled : bool
    over : bool
    result : GenerationResult or None
        Set when it is over, unless an error ended it.
    """

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        prompt: PromptIds,
        options: GenerationOptions,
        owner: Owner | None = None,
    ) -> None:
        self._engine, self._vocabulary = engine, vocabulary
        self._prompt, self._options, self._owner = prompt, options, owner
        self._adjustments = options.adjustments(vocabulary)
        self._sequence: Sequence | None = None
        self.cancelled = False
        self.over = False
        self.result: GenerationResult | None = None
        self._flushed = False
        self._dropped = 0  # tokens that the sequence did not begin with
        self._listener = _Listener(vocabulary, options.stop)
        self._claim = Claim(self)
        output = options.output
        self._constraint = None if output is None else output.constraint(vocabulary)

    @property
    def started(self) -> bool:
        """Whether it has a sequence in the engine."""
        return self._sequence is not None

    @property
    def computes_here(self) -> bool:
        """Whether the calling thread leads the engine. Until it returns, no request advances."""
        return self._engine.computes_here

    @property
    def tokens(self) -> list[int] | None:
        """Prompt and continuation so far; None before it begins."""
        return None if self._sequence is None else self._sequence.tokens

    @property
    def new_tokens(self) -> int:
        """Number of tokens generated so far."""
        return 0 if self._sequence is None else self._sequence.new_tokens

    def run(self) -> GenerationResult:
        """Generate to the end. Raises what `BitNetModel.generate` raises."""
        self._go_on(to_end=True)
        assert self.result is not None
        return self.result

    def next_piece(self) -> str | None:
        """The next piece of text; None after the last."""
        self._go_on(to_end=False)
        return self.ready_piece()

    # ---- for a thread that waits for several at once: begin, Engine.advance, end -----------

    @property
    def sequence(self) -> Sequence | None:
        """Its sequence in the engine; None before it begins."""
        return self._sequence

    @property
    def positions(self) -> tuple[int, int]:
        """Positions of the engine that it takes: of its prompt, and at most. For a request without
        owner."""
        capacity = self._engine.store.capacity
        prompt, new = min(len(self._prompt.first), capacity), self._options.max_tokens
        return prompt, capacity if new is None else min(prompt + new, capacity)

    @property
    def pieces(self) -> int:
        """How many pieces of its text are there, read or not."""
        return len(self._listener.text.pieces)

    @property
    def unread_pieces(self) -> int:
        """How many of them have not been read."""
        return self.pieces - self._listener.given

    def begin(self) -> Sequence:
        """Make its sequence. Raises CacheBudgetError."""
        if self._sequence is None:
            self._begin()
        assert self._sequence is not None
        return self._sequence

    def end(self) -> Exception | None:
        """Take the result of its sequence, which has ended. Returns the error that ended it."""
        try:
            assert self._sequence is not None
            self._take_end(self._sequence)
            self._finish_flushed()
        except BaseException as error:
            self.over, self._claim.tokens = True, None
            self.abandon()
            if isinstance(error, Exception):
                return error
            raise
        return None

    def ready_piece(self) -> str | None:
        """The next piece, if it is there."""
        if not self._listener.unread:
            return None
        self._listener.given += 1
        return self._listener.text.pieces[self._listener.given - 1]

    def cancel(self) -> None:
        """End it soon. May be called from any thread."""
        if self.over:
            return
        self.cancelled = True
        sequence = self._sequence
        if sequence is not None:
            self._engine.cancel(sequence)

    def close(self) -> None:
        """End it now, between two pieces. What was generated stays."""
        if not self.over:
            self._finish("cancelled")

    def _go_on(self, *, to_end: bool) -> None:
        """Generate to the end or, unless `to_end`, until there is something to read. After an error
        or Ctrl-C, it is as if the request had not been made, so that it can be repeated."""
        try:
            while not (self.over or (not to_end and self._listener.unread)):
                self._advance(to_end=to_end)
        except BaseException:
            # before any call, because a second Ctrl-C may come with one
            self.over, self._claim.tokens = True, None
            self.abandon()
            raise

    def abandon(self) -> None:
        """Give it up, as if the request had not been made."""
        self.over, self._claim.tokens = True, None
        if self._owner is not None:
            self._owner.settle(self._claim, None)
        if self._sequence is not None:
            self._engine.leave(self._sequence)

    def _advance(self, *, to_end: bool) -> None:
        if not self.started:
            if self.cancelled:
                self._finish("cancelled")
                return
            self._begin()
        assert self._sequence is not None
        if self._flushed:  # the last piece was read
            self._finish_flushed()
            return
        self._engine.advance(self._sequence, to_end=to_end)
        self._take_end(self._sequence)

    def _take_end(self, sequence: Sequence) -> None:
        if sequence.error is not None:
            raise sequence.error
        if sequence.ended:
            sequence.close()
            self._flushed = True
            self._listener.text.flush()

    def _finish_flushed(self) -> None:
        assert self._sequence is not None
        reason = "stop" if self._listener.text.stopped else self._sequence.finish_reason
        self._finish("cancelled" if self.cancelled else reason or "cancelled")

    def _begin(self) -> None:
        before = [] if self._owner is None else self._owner.claim(self._claim)
        given = self._prompt.after(before)
        options, capacity = self._options, self._engine.store.capacity
        tokens = fitted(given, options, self._engine, self._vocabulary.start_id, len(before))
        self._dropped = len(given) - len(tokens)
        eos_ids, stop_ids = options.ends(self._vocabulary)
        self._listener.begin_after(tokens)
        shifts = options.overflow == "shift"
        room = sys.maxsize if shifts else capacity - len(tokens)
        self._sequence = self._engine.sequence(
            tokens,
            Sampler(options.sampling, self._adjustments),
            max_tokens=room if options.max_tokens is None else min(options.max_tokens, room),
            context=capacity if shifts else None,
            kept=beginning(tokens, self._vocabulary.start_id),
            eos_ids=eos_ids,
            stop_ids=stop_ids,
            listener=self._listener,
            constraint=self._constraint,
            most_guesses=self._engine.most_guesses(options.prompt_lookup_num_tokens),
        )
        self._claim.tokens = tokens
        if self.cancelled:  # in the meantime, by another thread
            self._engine.cancel(self._sequence)

    def _finish(self, reason: str) -> None:
        sequence = self._sequence
        if sequence is None:
            logprobs: list[TokenLogprob] | None = None if self._options.logprobs is None else []
            text, output = self._listener.text.text, self._options.output
            self.result = GenerationResult(
                text, [], reason, 0, 0, Timings(), logprobs=logprobs, output=output
            )
            self.over = True
            return
        sequence.close()
        ids = sequence.new_ids
        result = GenerationResult(
            text=self._listener.text.text,
            ids=ids,
            finish_reason=reason,
            prompt_tokens=sequence.prompt_tokens,
            reused_tokens=sequence.reused_tokens,
            timings=sequence.timings,
            logprobs=None if self._options.logprobs is None else self._logprobs(len(ids)),
            forced_tokens=sequence.forced_tokens,
            drafted_tokens=sequence.drafted_tokens,
            accepted_tokens=sequence.accepted_tokens,
            dropped_tokens=self._dropped + sequence.dropped_tokens,
            context_full=reason == "length" and self._fills_context(sequence),
            output=self._options.output,
        )
        self._engine.leave(sequence)
        # last, so that Ctrl-C comes either before anything has changed or after everything has
        if self._owner is not None:
            self._owner.settle(self._claim, sequence.tokens)
        self.result, self.over = result, True

    def _fills_context(self, sequence: Sequence) -> bool:
        """Whether more tokens would have no room, whatever `max_tokens` says."""
        full = len(sequence.tokens) >= self._engine.store.capacity
        return full and self._options.overflow != "shift"

    def _logprobs(self, count: int) -> list[TokenLogprob]:
        """Of the first `count` new tokens."""
        assert self._sequence is not None

        def record(token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
            return TokenLogprob(token, logprob, self._vocabulary.token_bytes(token), top)

        def whole(found: Logprobs) -> TokenLogprob:
            return record(found.token, found.logprob, tuple(record(*each) for each in found.top))

        return [whole(found) for found in self._sequence.logprobs[:count]]
