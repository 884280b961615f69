"""What each sequence has of a pass: its rows, and what it asks of the head."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..interfaces.head_query import Candidates, HeadQuery
from ..kernels.workspace import Workspace
from .pass_costs import PassCosts
from .sequence import Sequence
from .store import Store

__all__ = ["Answers", "Share", "ask", "choose", "may_guess", "with_drafts"]

MOST_SEQUENCES = 8
"""More sequences than this share the weights well enough without guesses."""


class Share(NamedTuple):
    """
    Attributes
    ----------
    sequence : Sequence
    rows : int >= 1
        Tokens that it has in the pass.
    draft : list of int
        The last of them, which are guesses of what comes after its tokens.
    """

    sequence: Sequence
    rows: int
    draft: Items[int] = ()


Answers = list[tuple[Share, list[Candidates]]]
"""For each sequence that asks: the answers for the place after its last token, and after each
guess."""


def may_guess(shares: Items[Share]) -> bool:
    """Whether a pass may have guesses: one of its sequences makes some, they are few, and each has
    nothing to compute but its last token, and guesses."""
    return (
        any(share.sequence.guesses for share in shares)
        and len(shares) <= MOST_SEQUENCES
        and all(
            share.rows == 1 + len(share.draft) and share.sequence.chosen_tokens for share in shares
        )
    )


def with_drafts(shares: list[Share], costs: PassCosts) -> list[Share]:
    """The same shares of a pass that may have guesses, with as many guesses as pay. There is room
    for them in the blocks that the sequences have."""
    drafts = [share.sequence.draft() for share in shares]
    if not any(draft.tokens for draft in drafts):
        return shares
    counts = costs.worthwhile([draft.chances for draft in drafts])
    return [
        Share(share.sequence, 1 + count, draft.tokens[:count]) if count else share
        for share, draft, count in zip(shares, drafts, counts, strict=True)
    ]


def ask(
    shares: Items[Share],
    hidden: NDArray[np.float32],
    candidates: Callable[..., list[Candidates]],
    workspace: Workspace,
) -> Answers:
    """Ask the head, once for all sequences whose next token can be chosen after a pass.

    Parameters
    ----------
    shares : sequence of Share
    hidden : float32 array of shape (rows, hidden_size)
        What the pass gave.
    candidates : callable (hidden, queries, workspace)
        That of the model.
    workspace : Workspace
    """
    answers: Answers = []
    rows: list[int] = []
    queries: list[HeadQuery] = []
    end = 0
    for share in shares:
        sequence, count, draft = share
        end += count
        places = 1 + len(draft)
        if sequence.cache.length + count + 1 - places < len(sequence.tokens):
            continue
        query = sequence.query(draft)
        if query is not None:
            answers.append((share, []))
            rows += range(end - places, end)
            queries += [query] * places
    if answers:
        chosen = hidden if len(rows) == len(hidden) else hidden[rows]
        found = iter(candidates(chosen, queries, workspace))
        for share, its in answers:
            its += islice(found, 1 + len(share.draft))
    return answers


def choose(share: Share, answers: list[Candidates], store: Store) -> None:
    """Choose tokens from the answers, as long as they are those that were guessed. The positions of
    wrong guesses are not counted, so the next tokens are written there. Raises what
    `Sequence.choose` raises."""
    sequence = share.sequence
    if not share.draft:
        sequence.choose(answers[0])
        return
    sequence.drafted_tokens += len(share.draft)
    for guess, candidates in zip((*share.draft, None), answers, strict=True):
        if not sequence.choose(candidates) or sequence.tokens[-1] != guess:
            return
        sequence.accepted_tokens += 1
        if sequence.ended or sequence.cancelled:
            return
        store.advance(sequence, 1)
