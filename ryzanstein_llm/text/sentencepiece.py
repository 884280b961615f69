"""BPE of SentencePiece, whose merges are not listed: a pair of tokens merges if a token has their
spelling, and the highest score goes first."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["merges_of_scores"]


def merges_of_scores(pieces: Mapping[str, float]) -> list[tuple[str, str]]:
    """The list of merges, first to last, that gives the same tokens as the scores do.

    SentencePiece gives all pairs with the same spelling the same rank and takes the leftmost; in a
    list, one pair comes before another. That matters only where two pairs of the same spelling
    share a token (`ab a ba`), so the pair that can be the left one of such two comes first. Of
    one repeated character, either can be (`a aa a` and `aa a aa`). There the list may give the
    same tokens in another order.

    Parameters
    ----------
    pieces : mapping of str to float
        The score of each token that can be a result of merging or a part of it, by id. Of equal
        scores, the lower id goes first, where SentencePiece takes the leftmost.
    """
    ranked = sorted(pieces, key=pieces.__getitem__, reverse=True)  # equal ones by id
    merges: list[tuple[str, str]] = []
    for piece in ranked:
        pairs = [
            (left, right)
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in pieces and (right := piece[cut:]) in pieces
        ]
        if len(pairs) > 1:
            # a left one ends in what a pair of the same spelling can begin with
            pairs.sort(key=lambda pair: not piece.startswith(pair[1]))
        merges += pairs
    return merges
