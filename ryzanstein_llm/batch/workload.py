"""Many generations that one thread waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ..engine.engine import Engine
from ..engine.gate import Gate
from ..generation import Generation
from ..interfaces.kv_layout import BLOCK_POSITIONS

__all__ = ["Workload"]

ROWS = 64
"""The largest number of generations in the engine at a time. More make a pass longer, and hardly
save time for each."""


class Workload:
    """Generations in the order in which they begin. As many are in the engine at a time as share a
    pass well, and as the budget for keys and values has room for; the next one begins when one has
    ended. Generations whose length is not known beforehand count as one block longer than their
    prompt, and if that is too little, the engine lets the last ones wait.

    Any thread may call `add`, and one thread at a time `wait`.

    Parameters
    ----------
    engine : Engine
    rows : int >= 1
        The largest number of generations in the engine.
    """

    def __init__(self, engine: Engine, rows: int = ROWS) -> None:
        self._engine, self._rows = engine, rows
        self._gate = Gate()
        self._lock = threading.Lock()
        self._queue: deque[Generation] = deque()
        self._running: dict[Generation, int] = {}  # and their blocks
        self._waiting = self._grown = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._running)

    def add(self, *generations: Generation) -> None:
        """More to do, from any thread. What there is room for can be computed at once, also while
        another thread is in `wait`."""
        with self._lock:
            self._queue += generations
            self._fill()
        self._gate.open()

    def remove(self, generation: Generation) -> None:
        """Nobody waits for this one now; `add` brings it back. Not while a thread is in `wait`."""
        with self._lock:
            self._running.pop(generation, None)

    def wait(self, watch: Callable[[], bool] = lambda: False) -> list[Generation]:
        """Compute, or wait for a thread that does, until one of them has ended or `watch`, which is
        called after each pass, says that it is enough. Does nothing if there are none.

        Returns
        -------
        list of Generation
            Those that have ended; `end` gives their results. They are no longer part of it.

        Raises
        ------
        SessionBusyError, ClosedError
        """
        with self._lock:
            self._fill()
            self._waiting, self._grown = True, False
            running = list(self._running)
        sequences = [generation.begin() for generation in running]
        try:
            if sequences:
                self._engine.advance(
                    *sequences,
                    enough=lambda: (
                        watch() or self._grown or any(sequence.ended for sequence in sequences)
                    ),
                )
        finally:
            self._waiting = False
        ended = [each for each in running if each.begin().ended]
        with self._lock:
            for generation in ended:
                del self._running[generation]
        return ended

    def give_up(self) -> list[Generation]:
        """Abandon all that is left, and return it. For the thread that was in `wait`."""
        with self._lock:
            left = [*self._running, *self._queue]
            sequences = [each.sequence for each in self._running if each.sequence is not None]
            self._running.clear()
            self._queue.clear()
        if sequences:  # those that were added meanwhile leave the engine, too
            self._engine.advance(*sequences, enough=lambda: True)
        for generation in left:
            generation.abandon()
        return left

    def _fill(self) -> None:
        """Begin those that there is room for."""
        while self._queue:
            blocks = _blocks(self._queue[0])
            free = self._engine.store.pool.capacity - sum(self._running.values())
            if self._running and (blocks > free or len(self._running) >= self._rows):
                return
            generation = self._queue.popleft()
            sequence = generation.begin()
            sequence.gate = self._gate
            self._running[generation] = blocks
            if self._waiting:
                self._grown = True
                self._engine.enter(sequence)


def _blocks(generation: Generation) -> int:
    """How many blocks it will probably take."""
    prompt, most = generation.positions
    return -(-min(most, prompt + BLOCK_POSITIONS) // BLOCK_POSITIONS)
