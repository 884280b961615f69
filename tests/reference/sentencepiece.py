"""BPE of SentencePiece, by its definition: of all neighbours whose joined spelling is a token,
those with the highest score merge, of equal ones the leftmost; again and again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

__all__ = ["tokenize"]


def tokenize(text: str, scores: Mapping[str, float]) -> list[str]:
    """
    Parameters
    ----------
    text : str
        With its spaces replaced already.
    scores : mapping of str to float
        The tokens that merging may give.

    Returns
    -------
    list of str
        Tokens. A character without a token is its bytes: ``<0xE2>``, and so on.
    """
    symbols = list(text)
    while True:
        joined = [left + right for left, right in pairwise(symbols)]
        known = [(-scores[token], at) for at, token in enumerate(joined) if token in scores]
        if not known:
            break
        at = min(known)[1]
        symbols[at : at + 2] = [joined[at]]
    return [
        token
        for symbol in symbols
        for token in (
            [symbol] if symbol in scores else [f"<0x{byte:02X}>" for byte in symbol.encode()]
        )
    ]
