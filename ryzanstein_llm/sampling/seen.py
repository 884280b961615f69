"""Which tokens came before, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Seen"]


class Seen:
    """
    Attributes
    ----------
    ids : int64 array of shape (n,), rising
        The different tokens.
    counts : float32 array of shape (n,)
        How often each of them came.
    """

    def __init__(self) -> None:
        self.ids = np.empty(0, np.int64)
        self.counts = np.empty(0, np.float32)

    def add(self, tokens: Sequence[int]) -> None:
        """Count these tokens too."""
        if len(tokens) != 1:
            ids, counts = np.unique(np.array(tokens, np.int64), return_counts=True)
        else:  # the usual case, in which sorting would take longest
            ids, counts = np.array(tokens, np.int64), np.ones(1, np.int64)
        at = np.searchsorted(self.ids, ids)
        known = at < len(self.ids)
        known[known] = self.ids[at[known]] == ids[known]
        self.counts[at[known]] += counts[known].astype(np.float32)
        if not known.all():
            new = ~known
            self.ids = np.insert(self.ids, at[new], ids[new])
            self.counts = np.insert(self.counts, at[new], counts[new])
