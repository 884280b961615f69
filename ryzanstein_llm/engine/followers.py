"""Sequences that wait for another one that is reading the same beginning, so that it is computed
once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from .scheduler import Need
from .sequence import Sequence
from .store import Store

__all__ = ["Followers"]

LEAST_COMMON = 32
"""A sequence waits for another one only if that spares it at least so many positions: fewer are
computed about as fast as a block is copied."""


class _Followed(NamedTuple):
    """The sequence that another one waits for, and the number of tokens that both begin with."""

    sequence: Sequence
    common: int


class Followers:
    """Who waits for whom. Only the thread that has the turn may use it.

    A sequence waits before it has blocks, and for a sequence that came before or has blocks, so
    nobody waits in a circle. When the other one has read what both begin with, or is gone, it is
    admitted to the store, which gives it the blocks that are there by then.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followed: dict[Sequence, _Followed] = {}

    def admit(self, members: Iterable[Sequence], others: Collection[Sequence] = ()) -> None:
        """Admit new sequences to the store, except those that better wait.

        Parameters
        ----------
        members : iterable of Sequence
            Sequences that somebody waits for, in the order in which they came.
        others : sequence of Sequence
            More sequences that may be reading: those of a pass that is not over.
        """
        members = list(members)
        readers = {each: None for each in (*others, *members) if _is_reading(each)}
        for sequence in members:
            if sequence.admitted and sequence.cache.counted:
                continue
            if not self._waits(sequence, readers):
                self.admit_now(sequence, others)
                if _is_reading(sequence):
                    readers[sequence] = None

    def admit_now(self, sequence: Sequence, computing: Collection[Sequence] = ()) -> None:
        """Admit a sequence, whether it waits or not. The blocks of those that are `computing` are
        not touched."""
        followed = self._followed.pop(sequence, None)
        leader = None if followed is None else followed.sequence
        if leader is not None and leader.admitted and leader not in computing:
            self._store.share(leader)
        self._store.admit(sequence)

    def release(self, sequence: Sequence) -> None:
        """Admit those that wait for this sequence: there is no room for it now."""
        for follower, followed in list(self._followed.items()):
            if followed.sequence is sequence:
                self.admit_now(follower)

    def leave(self, sequence: Sequence) -> None:
        """Nobody waits for this sequence any more. May be called from any thread."""
        self._followed.pop(sequence, None)

    def waits(self, sequence: Sequence) -> bool:
        """Whether it waits for another one."""
        return sequence in self._followed

    def needs(self, members: list[Sequence]) -> list[Need]:
        """What each of these sequences needs, for the scheduler."""
        places = {sequence: index for index, sequence in enumerate(members)}
        needs = []
        for sequence in members:
            need, followed = sequence.need, self._followed.get(sequence)
            if followed is not None and followed.sequence in places:
                left = followed.common - followed.sequence.cache.length
                need = need._replace(follows=places[followed.sequence], spared=left)
            needs.append(need)
        return needs

    def _waits(self, sequence: Sequence, readers: Collection[Sequence]) -> bool:
        followed = self._followed.get(sequence)
        if followed is not None:
            # once it reads no more, its blocks are kept
            return followed.sequence in readers and followed.sequence.cache.length < followed.common
        if sequence.chosen_tokens:
            return False
        best, most = None, LEAST_COMMON - 1
        for reader in readers:
            common = _common(reader, sequence)
            if common - reader.cache.length > most:
                best, most = _Followed(reader, common), common - reader.cache.length
        if best is None:
            return False
        self._followed[sequence] = best
        return True


def _is_reading(sequence: Sequence) -> bool:
    return sequence.admitted and sequence.cache.counted and not sequence.chosen_tokens


def _common(reader: Sequence, other: Sequence) -> int:
    """The number of positions of the reader that the other can use, or less if it would be spared
    fewer than LEAST_COMMON. The last token of the other is always computed, because its logits are
    needed."""
    begin = reader.cache.length
    near = slice(begin, begin + LEAST_COMMON)
    if reader.tokens[near] != other.tokens[near]:  # most are told apart here
        return 0
    length = min(len(reader.tokens), len(other.tokens) - 1)
    differing = np.flatnonzero(np.not_equal(reader.tokens[:length], other.tokens[:length]))
    return int(differing[0]) if len(differing) else length
