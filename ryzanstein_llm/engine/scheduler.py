"""Which sequences are computed in the next pass. Policy only: knows numbers and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

__all__ = ["Need", "Scheduler"]

PROMPT_ROWS = 512
"""Rows of a prompt in a pass when it is alone. A larger number saves little, takes more memory, and
delays Ctrl-C."""

SHARED_ROWS = 128
"""Rows of prompts in a pass when others decode or read prompts too, so that nobody waits long."""

DECODING_ROWS = 256
"""The largest number of sequences that decode in one pass."""


class Need(NamedTuple):
    """What a sequence waits for.

    Attributes
    ----------
    rows : int >= 1
        Tokens that have to go through the model before its next token can be chosen.
    decoding : bool
        Whether a token was chosen already. Then `rows` is 1, unless its cache was taken or tokens
        were forced.
    follows : int or None
        The index of a sequence that is reading the same beginning, whose blocks it can use.
    spared : int
        How many rows of that one it can use.
    """

    rows: int
    decoding: bool
    follows: int | None = None
    spared: int = 0


class Scheduler:
    """Every sequence that decodes has a row in every pass. The other rows go to prompts, the
    shortest first, and of equally short ones the one that came first. But the prompt that has
    waited longest gets at least a quarter of them, however many short ones come.

    A sequence that follows another one has no rows, as long as that one has some in the same pass.

    Parameters
    ----------
    prompt_rows, shared_rows, decoding_rows : int, optional
        See the constants of this module.
    """

    def __init__(
        self,
        prompt_rows: int = PROMPT_ROWS,
        shared_rows: int = SHARED_ROWS,
        decoding_rows: int = DECODING_ROWS,
    ) -> None:
        self._prompt_rows, self._shared_rows = prompt_rows, shared_rows
        self._decoding_rows = decoding_rows

    def plan(self, needs: Sequence[Need]) -> list[int]:
        """Rows for each of the sequences, which are in the order in which they came; 0 for those
        that are not in this pass."""
        following = {i for i, need in enumerate(needs) if need.follows is not None}
        while True:
            rows = self._share(needs, following)
            stuck = {i for i in following if not rows[needs[i].follows or 0]}
            if not stuck:
                return rows
            following -= stuck

    def _share(self, needs: Sequence[Need], following: Set[int]) -> list[int]:
        """Rows for those that do not follow another one."""
        rows = [0] * len(needs)
        members = [i for i in range(len(needs)) if i not in following]
        if len(members) == 1:
            # those that follow wait no longer than for what they can use
            spared = min((needs[i].spared for i in following), default=self._prompt_rows)
            most = max(spared, self._shared_rows)
            rows[members[0]] = min(needs[members[0]].rows, self._prompt_rows, most)
            return rows
        decoding = [i for i in members if needs[i].decoding and needs[i].rows == 1]
        for i in decoding[: self._decoding_rows]:
            rows[i] = 1
        prompts = [i for i in members if not (needs[i].decoding and needs[i].rows == 1)]
        left = self._shared_rows
        if prompts:
            rows[prompts[0]] = min(needs[prompts[0]].rows, -(-left // 4))
            left -= rows[prompts[0]]
        for i in sorted(prompts, key=lambda i: (needs[i].rows, i)):
            more = min(needs[i].rows - rows[i], left)
            rows[i] += more
            left -= more
        return rows
