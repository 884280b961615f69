"""Log probabilities of many continuations of many prompts, with passes that they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import CacheBudgetError
from ..interfaces.kv_layout import BLOCK_POSITIONS
from ..sampling import log_probabilities
from .compute import HEAD_TOKENS, Float32, new_cancel_flag
from .engine import Engine
from .kv_cache import KVCache

__all__ = ["Node", "Stem", "run_stems"]

PASS_ROWS = 256
"""Rows of a pass. With more, more caches are in use at a time, and the first touch of their memory
costs more than larger passes save (measured on the demo model)."""

LEAST_COMMON = 32
"""Positions that all prompts must begin with, to be computed once: copying a block of keys and
values takes about as long as fewer."""


@dataclass(eq=False, slots=True)
class Node:
    """A place in a tree of continuations: the tokens before it are those on the way to it.

    Attributes
    ----------
    logprobs : dict from token id to float
        Of the tokens that are asked for here, in nats.
    likeliest : int
        The likeliest token here; of equally likely ones the lowest id.
    children : dict from token id to Node
        Places after one more token, where more is asked for.
    """

    logprobs: dict[int, float] = field(default_factory=dict)
    likeliest: int = -1
    children: dict[int, Node] = field(default_factory=dict)


@dataclass(eq=False)
class Stem:
    """A prompt and the tree of its continuations.

    Parameters
    ----------
    tokens : list of int
        The prompt, at least one token.

    Attributes
    ----------
    root : Node
        The place after the prompt.
    depth : int
        The largest number of tokens of a continuation before its last one.
    """

    tokens: list[int]
    root: Node = field(default_factory=Node)
    depth: int = 0

    def ask(self, continuation: Sequence[int]) -> list[Node]:
        """Ask for the tokens of a continuation, at least one. Returns the places of its tokens,
        which have the answers when the stem has run."""
        node, places = self.root, [self.root]
        for token in continuation[:-1]:
            node.logprobs[token] = np.nan
            node = node.children.setdefault(token, Node())
            places.append(node)
        node.logprobs[continuation[-1]] = np.nan
        self.depth = max(self.depth, len(continuation) - 1)
        return places


@dataclass(eq=False)
class _Step:
    """Tokens of one path, and the place after each; None where nothing is asked for."""

    position: int
    tokens: list[int]
    places: list[Node | None]


class _Running:
    """A stem with its cache, and the steps that are left. Each step goes on from the position where
    it leaves the step before, and overwrites what that had after it: a token attends only to
    positions before its own. So all steps may share a pass, in order."""

    def __init__(self, stem: Stem, cache: KVCache, positions: int) -> None:
        self.stem, self.cache = stem, cache
        start = cache.length
        rest = stem.tokens[start:positions]
        places: list[Node | None] = [None] * len(rest)
        if positions == len(stem.tokens):
            places[-1] = stem.root
        self.steps = deque([_Step(start, rest, places)])
        if positions == len(stem.tokens):
            self._add_paths(stem)

    def _add_paths(self, stem: Stem) -> None:
        """The paths of the tree, depth first."""
        step = _Step(len(stem.tokens), [], [])
        stack = [(token, child, len(stem.tokens)) for token, child in stem.root.children.items()]
        while stack:
            token, node, position = stack.pop()
            if position != step.position + len(step.tokens):  # another path leaves here
                self.steps.append(step)
                step = _Step(position, [], [])
            step.tokens.append(token)
            step.places.append(node)
            stack += [(each, child, position + 1) for each, child in node.children.items()]
        if step.tokens:
            self.steps.append(step)

    def take(self, rows: int) -> list[_Step]:
        """At most so many rows of the next steps, which are done then."""
        taken = []
        while rows and self.steps:
            step = self.steps[0]
            part = _Step(step.position, step.tokens[:rows], step.places[:rows])
            if len(part.tokens) == len(step.tokens):
                self.steps.popleft()
            else:
                left = (step.position + rows, step.tokens[rows:], step.places[rows:])
                self.steps[0] = _Step(*left)
            rows -= len(part.tokens)
            taken.append(part)
        return taken


def run_stems(
    engine: Engine, stems: Sequence[Stem], progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Fill in all answers.

    What all prompts begin with is computed once. Then prompts and paths of several stems go through
    the model together, up to 256 rows a pass. The whole head is read for every place where
    something is asked for, because a probability needs the sum over the vocabulary: once for 64
    places, whatever passes they come from.

    Parameters
    ----------
    progress : callable (stems done, stems, "scoring"), optional

    Raises
    ------
    CacheBudgetError, SessionBusyError, ClosedError
    FormatError
        If logits are not finite.
    """
    _Run(engine, stems, progress).run()


class _Run:
    def __init__(
        self,
        engine: Engine,
        stems: Sequence[Stem],
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self._engine, self._stems, self._progress = engine, stems, progress
        self._pending = deque(stems)
        self._running: list[_Running] = []
        self._spare: list[KVCache] = []  # of stems that are done, with the trunk at their beginning
        # hidden states whose answers are not there yet
        self._asked: list[tuple[Float32, Node]] = []
        self._cancel = new_cancel_flag()
        # others need room too, and would fail without any
        self._most_blocks = max(1, engine.store.pool.capacity // 2)
        self._common = 0

    def run(self) -> None:
        trunk = self._trunk()
        try:
            while self._pending or self._running:
                self._pass()
                left = len(self._pending) + len(self._running)
                while len(self._asked) >= (HEAD_TOKENS if left else 1):
                    self._answer()
                if self._progress is not None:
                    self._progress(len(self._stems) - left, len(self._stems), "scoring")
        finally:
            if not self._engine.closed:
                self._engine.exclusively(lambda: self._free(trunk))

    def _trunk(self) -> KVCache | None:
        """A cache with what all prompts begin with. As long as it is there, others copy its last
        block instead of taking it."""
        first, last = (
            (min(tokens), max(tokens)) if (tokens := [s.tokens for s in self._stems]) else ([], [])
        )
        common = 0
        for one, other in zip(first[:-1], last, strict=False):
            if one != other:
                break
            common += 1
        common = min(common, *(len(stem.tokens) - 1 for stem in self._stems)) if common else 0
        if len(self._stems) < 2 or common < LEAST_COMMON:
            return None
        stem = Stem(first)
        trunk = self._engine.exclusively(lambda: self._admit(stem, common))
        while trunk.steps:
            self._compute([(trunk, step) for step in trunk.take(PASS_ROWS)])
        store = self._engine.store
        self._engine.exclusively(lambda: store.keep(trunk.cache, trunk.stem.tokens))
        self._common = common
        return trunk.cache

    def _pass(self) -> None:
        """One pass: the next steps of each stem, and new stems in the rows that are left."""
        shares: list[tuple[_Running, _Step]] = []
        left = PASS_ROWS

        def take(running: _Running) -> None:
            nonlocal left
            steps = running.take(left)
            left -= sum(len(step.tokens) for step in steps)
            shares.extend((running, step) for step in steps)

        for running in self._running:
            take(running)
        while left and self._pending and self._has_room():
            try:
                running = self._engine.exclusively(self._admit_next)
            except CacheBudgetError:
                if not self._running:
                    raise
                break  # when these are done, there is more room
            self._running.append(running)
            take(running)
        self._compute(shares)
        done = [running for running in self._running if not running.steps]
        if done:
            self._engine.exclusively(lambda: self._leave(done))
            self._running = [running for running in self._running if running.steps]

    def _has_room(self) -> bool:
        """Whether the next stem may begin, beside those that are running."""
        stem, shared = self._pending[0], self._common // BLOCK_POSITIONS
        caches = [*(running.cache for running in self._running), *self._spare[:-1]]
        used = sum(len(cache.blocks) - shared for cache in caches)
        own = -(-(len(stem.tokens) + stem.depth) // BLOCK_POSITIONS) - shared
        return not self._running or used + own <= self._most_blocks

    def _admit_next(self) -> _Running:
        running = self._admit(self._pending[0], len(self._pending[0].tokens))
        self._pending.popleft()
        return running

    def _admit(self, stem: Stem, positions: int) -> _Running:
        """A stem with what is there of its beginning, and with room for all its steps."""
        if self._spare:
            cache = self._spare.pop()
            cache.length = self._common
        else:
            cache = self._engine.store.new_cache()
            self._engine.store.fill(cache, stem.tokens[: positions - 1])
        try:
            self._engine.make_room(cache, positions + stem.depth)
        except CacheBudgetError:
            cache.free_from(0)
            raise
        return _Running(stem, cache, positions)

    def _compute(self, shares: list[tuple[_Running, _Step]]) -> None:
        for running, step in reversed(shares):
            running.cache.length = step.position  # in the end, of the first step
        parts = [
            (running.cache, step.position, np.array(step.tokens, np.int64))
            for running, step in shares
        ]
        hidden = np.concatenate(self._engine.extend(parts, self._cancel))
        for cache, position, tokens in parts:
            cache.length = position + len(tokens)
        places = [place for _, step in shares for place in step.places]
        self._asked += [
            (hidden[row].copy(), place) for row, place in enumerate(places) if place is not None
        ]

    def _answer(self) -> None:
        """The answers for the next hidden states."""
        block = self._asked[:HEAD_TOKENS]
        rows = np.stack([hidden for hidden, _ in block])
        for logits, (_, place) in zip(self._engine.logits(rows, self._cancel), block, strict=True):
            ids = list(place.logprobs)
            place.logprobs = dict(zip(ids, log_probabilities(logits, ids), strict=True))
            place.likeliest = int(np.argmax(logits))  # the first of equals
        del self._asked[:HEAD_TOKENS]

    def _leave(self, done: list[_Running]) -> None:
        """The next stems take over the caches of those that are done, so that the end of the trunk
        need not be copied again. If there is no trunk, prompts are kept for later requests."""
        for running in done:
            if self._common:
                after = -(-self._common // BLOCK_POSITIONS)
                if any(block.shared for block in running.cache.blocks[after:]):
                    running.cache.free_from(self._common)  # the next stem must not write there
                self._spare.append(running.cache)
            else:
                running.cache.length = len(running.stem.tokens)
                self._engine.store.keep(running.cache, running.stem.tokens)
                running.cache.free_from(0)

    def _free(self, trunk: KVCache | None) -> None:
        caches = [running.cache for running in self._running] + self._spare
        for cache in [*caches, *([] if trunk is None else [trunk])]:
            cache.free_from(0)
