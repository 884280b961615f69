"""Many sequences, one pass over the weights at a time.

Of the threads that wait for tokens, one leads and computes for all. When it has what it waits for,
another one takes over. Results are equal bit for bit to those of each sequence alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import CancelledError
from ..interfaces.kv_layout import Segment
from ..models import CausalLM
from ..sampling import Sampler
from .compute import Compute, new_cancel_flag
from .followers import Followers
from .gate import Gate
from .kv_cache import KVCache
from .pass_costs import PassCosts
from .prompt_lookup import usual_guesses
from .scheduler import SHARED_ROWS, Scheduler
from .sequence import Sequence
from .shares import Answers, Share, ask, choose, may_guess, with_drafts
from .store import Store

__all__ = ["Engine"]

Enough = Callable[[], bool]


class Engine(Compute):
    """
    Parameters
    ----------
    graph : CausalLM
    n_threads : int, of every parallel region
    store : Store, which keeps keys and values
    """

    def __init__(self, graph: CausalLM, n_threads: int, store: Store) -> None:
        self.store = store
        self._scheduler = Scheduler()
        self._arrivals = itertools.count()
        super().__init__(graph, n_threads)

    def _begin_afresh(self) -> None:
        super()._begin_afresh()
        self._waiting: dict[Sequence, None] = {}
        self._computing: tuple[Sequence, ...] = ()
        self._letting_in = False
        self._followers = Followers(self.store)
        self._costs = PassCosts()
        self._cancel = new_cancel_flag()

    # ---- sequences -------------------------------------------------------------------------

    @property
    def context_length(self) -> int:
        """The largest number of positions of a sequence."""
        return self.store.context_length

    def most_guesses(self, wanted: int | None) -> int:
        """How many tokens a sequence may guess at a time; None: as is best for this model."""
        return usual_guesses(self.graph.n_parameters) if wanted is None else wanted

    def sequence(self, tokens: list[int], sampler: Sampler, **options: Any) -> Sequence:
        """A new sequence with an empty cache. Options: those of `Sequence`.

        Raises
        ------
        CacheBudgetError
            If its prompt cannot fit the budget.
        """
        if len(tokens) > self.store.capacity:
            raise self.store.refuse(len(tokens))
        arrival = next(self._arrivals)
        return Sequence(self.store.new_cache(), tokens, sampler, arrival=arrival, **options)

    def enter(self, sequence: Sequence) -> None:
        """The thread at the gate of this sequence waits for it from now on. From any thread."""
        sequence.start_clock()
        self._waiting[sequence] = None

    def advance(
        self, *sequences: Sequence, to_end: bool = True, enough: Enough | None = None
    ) -> None:
        """Wait until `enough` says so; by default until each of the sequences has ended or, unless
        `to_end`, its listener has something to read. If this thread has the turn, it computes in
        that time, and asks after each pass. If a sequence fails, its `error` is set.

        Raises
        ------
        SessionBusyError
            If this thread is computing, because a callback or signal handler cannot wait for it.
        ClosedError
            If the engine is closed.
        """
        self._refuse_nesting()
        gate = sequences[0].gate
        enough = enough or (
            lambda: all(each.ended or (not to_end and each.unread) for each in sequences)
        )
        try:
            for sequence in sequences:
                sequence.gate = gate
                self.enter(sequence)
            while not enough():
                _ = self.graph  # ClosedError
                with self._turn as leading:
                    if leading:
                        self._lead(enough)
                if leading:
                    if enough():
                        break
                    self._hand_over()  # another thread needs the turn
                gate.wait()
                for sequence in sequences:
                    if sequence.cancelled and sequence not in self._computing:
                        sequence.end_cancelled()
        finally:
            for sequence in sequences:
                self._waiting.pop(sequence, None)
                self._followers.leave(sequence)
            self._hand_over()

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence soon. A pass stops if all its sequences are cancelled. May be called from
        any thread."""
        sequence.cancelled = True
        self._give_up_if_cancelled()
        sequence.gate.open()

    def leave(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Nobody will wait for this sequence any more. Its keys and values are kept for others that
        begin with the same tokens, as far as the budget allows."""
        sequence.keep = keep and not self.closed
        self.store.leave(sequence)
        with self._turn as mine:
            if mine:
                self._tidy()

    def forget(self, tokens: list[int]) -> None:
        """The sequence with these tokens will not be continued."""
        with self._turn as mine:
            if mine:
                self._tidy()
                self.store.forget(tokens)

    def clear(self) -> None:
        """Free all keys and values that only wait to be used again."""
        self.exclusively(self.store.clear)

    def make_room(self, cache: KVCache, positions: int) -> None:
        self.store.reserve(cache, positions, self._waiting)

    # ---- leading ---------------------------------------------------------------------------

    def _lead(self, enough: Enough) -> None:
        """Compute for all waiting threads until this thread has enough, or another thread needs the
        turn; at least one pass, however many visitors there are."""
        while not enough():
            self._step()
            self._visited = False
            if self._visitors:
                break

    def _step(self) -> None:
        """One pass: schedule, compute, choose, commit. Called by the thread that has the turn."""
        self._tidy()
        shares = self._schedule()
        if shares:
            self._run(shares)

    def _run(self, shares: list[Share]) -> None:
        self._computing = tuple(share.sequence for share in shares)
        self._cancel[0] = 0
        self._give_up_if_cancelled()
        start, guessing = time.perf_counter(), may_guess(shares)
        try:
            self._commit(shares, self._compute(shares))
            if guessing:
                rows = sum(share.rows for share in shares)
                self._costs.add(rows, time.perf_counter() - start)
        except CancelledError:
            pass  # all sequences of the pass were cancelled
        finally:
            self._computing = ()

    def _schedule(self) -> list[Share]:
        """What each sequence has of the next pass."""
        members = []
        for sequence in sorted(self._waiting, key=lambda sequence: sequence.arrival):
            if sequence.cancelled:
                sequence.end_cancelled()
            elif sequence.choice_unfinished:
                sequence.recover()
            if sequence.full and not sequence.ended:
                self.store.shift(sequence)
            if sequence.ended:
                sequence.gate.open()
            else:
                members.append(sequence)
        self._followers.admit(members)
        return self._share_pass(members)

    def _share_pass(
        self, members: list[Sequence], others: tuple[Sequence, ...] = ()
    ) -> list[Share]:
        """What each has of the next pass, after making room in their caches. The caches of `others`
        are not touched for that."""
        while members:
            shares, without_room = [], []
            everybody = [*others, *members]
            rows = self._scheduler.plan(self._followers.needs(members))
            for index, sequence in enumerate(members):
                if rows[index] and self._followers.waits(sequence):
                    self._followers.admit_now(sequence)  # the one that it follows gets no further
                    rows[index] = min(rows[index], sequence.need.rows)
            for sequence, count in zip(members, rows, strict=True):
                # not `admitted`: its blocks were taken for a sequence that came before
                admitted = count and sequence.admitted
                if admitted and self.store.make_room(sequence, count, everybody):
                    shares.append(Share(sequence, count))
                elif count:
                    without_room.append(sequence)
                    self._followers.release(sequence)
                    if sequence.ended:  # it can never fit
                        sequence.gate.open()
            if shares:
                plain = bool(self._observers) or not may_guess(shares)
                return shares if plain else with_drafts(shares, self._costs)
            # their rows go to the other sequences
            members = [sequence for sequence in members if sequence not in without_room]
        return []

    def _compute(self, shares: list[Share]) -> Answers:
        """Run the pass. Returns the answers of the head for each sequence whose next token can be
        chosen."""
        segments: list[Segment] = []
        ids: list[int] = []
        for sequence, rows, draft in shares:
            start = sequence.cache.length
            ids += sequence.tokens[start : start + rows]
            ids += draft
            segments.append((rows, start, sequence.cache.table))
        self._workspace.use_cancel_flag(self._cancel)
        long = len(ids) > SHARED_ROWS and not self._letting_in
        model = self._model  # asked for once: it looks at files
        hidden = model.hidden_states(
            np.asarray(ids, np.int64),
            segments,
            self.store.layout,
            self._workspace,
            self._let_in if long else None,
        )
        answers = ask(shares, hidden, model.candidates, self._workspace)
        if self._cancel[0]:
            raise CancelledError("the pass was cancelled")
        return answers

    def _let_in(self) -> None:
        """Called between two layers of a long prompt. New sequences with short prompts get their
        first token now, in a pass of their own."""
        if len(self._waiting) <= len(self._computing):
            return
        outer = self._computing
        newcomers = [
            sequence
            for sequence in sorted(self._waiting, key=lambda sequence: sequence.arrival)
            if sequence not in outer
            and not (sequence.ended or sequence.chosen_tokens or sequence.choice_unfinished)
        ]
        # a short prompt does not begin to wait for the long one now
        short = (each for each in newcomers if len(each.tokens) <= SHARED_ROWS)
        self._followers.admit([each for each in short if not self._followers.waits(each)])
        self._followers.admit(newcomers, outer)
        newcomers = [each for each in newcomers if each.admitted and each.need.rows <= SHARED_ROWS]
        shares = [
            share
            for share in self._share_pass(newcomers, outer)
            if share.rows == share.sequence.need.rows
        ]
        if not shares:
            return
        self._letting_in = True
        try:
            self._run(shares)
        finally:
            self._letting_in = False
            self._computing = outer
            self._cancel[0] = 0
            self._give_up_if_cancelled()

    def _commit(self, shares: list[Share], answers: Answers) -> None:
        """Take the results: positions first, then tokens. An interrupt of the leading thread does
        no harm to the others: results that were not taken yet are computed again."""
        for sequence, rows, draft in shares:
            self.store.advance(sequence, rows - len(draft))
        for share, candidates in answers:
            sequence = share.sequence
            if sequence.cancelled:
                continue
            start = time.perf_counter()
            try:
                choose(share, candidates, self.store)
            except Exception as error:  # its own, or its listener's
                sequence.fail(error)
            for observer in self._observers:
                observer.sampled(time.perf_counter() - start)
            sequence.gate.open()

    def _tidy(self) -> None:
        self.store.tidy()

    def _give_up_if_cancelled(self) -> None:
        computing = self._computing
        if computing and all(sequence.cancelled for sequence in computing):
            self._cancel[0] = 1

    def _next_gate(self) -> Gate | None:
        """Visitors and passes take turns, so that none of them can keep the others waiting."""
        visitor, member = super()._next_gate(), self._member_gate()
        return member or visitor if self._visited else visitor or member

    def _member_gate(self) -> Gate | None:
        return next((each.gate for each in list(self._waiting) if not each.ended), None)

    def _let_members_go_first(self) -> bool:
        gate = self._member_gate()
        if gate is None:
            return False
        gate.open()
        return True

    def _close(self) -> None:
        self.store.close()  # first, so that an interrupted `close` can be repeated
        super()._close()
        for sequence in list(self._waiting):
            sequence.gate.open()

    def _after_fork(self) -> None:
        former = self.store
        self.store = Store(former.layout, former.context_length, former.pool.budget)
        former.abandon()
        super()._after_fork()
