"""Rows of a batch, cut from the ids of all texts. Nothing here has a state to save: which rows
a step sees follows from the seed and the number of rows before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ryzanstein_llm.errors import InvalidParameterError

__all__ = ["Windows"]


class Windows:
    """Windows of `context` ids; in every epoch each id but a few at the ends is in one of them,
    in a new order and with new borders.

    As when perplexity is measured, BOS stands in front wherever a window begins.

    Parameters
    ----------
    texts : sequence of int arrays
        Ids of each text, without BOS and EOS.
    context : int
        Length of a row.
    bos, eos : int
        `eos` ends each text.
    seed : int

    Raises
    ------
    InvalidParameterError
        The texts do not fill a window.
    """

    def __init__(
        self, texts: Sequence[NDArray[np.int32]], context: int, bos: int, eos: int, seed: int
    ) -> None:
        self.ids = np.concatenate([part for text in texts for part in (text, [eos])])
        self.context, self.bos, self.seed = context, bos, seed
        # One window less than would fit, for the border moves by up to one window.
        self.rows_per_epoch = len(self.ids) // context - 1
        if self.rows_per_epoch < 1:
            raise InvalidParameterError(
                f"{len(self.ids):,} tokens of text to train on are too few: a context of {context} "
                f"needs {2 * context:,} or more"
            )
        self._epoch = -1
        self._begins = np.empty(0, np.int64)

    def batch(
        self, done: int, rows: int, parts: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (rows, context), after `done` rows have been seen. Cut into
        `parts`, a divisor of the context: (rows * parts, context / parts), each its own window."""
        begins = [self._begin(done + row) for row in range(rows)]
        targets = np.stack([self.ids[at : at + self.context] for at in begins]).astype(np.int64)
        targets = targets.reshape(rows * parts, self.context // parts)
        inputs = np.empty_like(targets)
        inputs[:, 0] = self.bos
        inputs[:, 1:] = targets[:, :-1]
        return inputs, targets

    def epochs(self, done: int) -> float:
        """How often each text was seen after `done` rows."""
        return done / self.rows_per_epoch

    def _begin(self, index: int) -> int:
        epoch, place = divmod(index, self.rows_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng((self.seed, epoch))
            first = int(generator.integers(self.context))
            self._begins = first + self.context * generator.permutation(self.rows_per_epoch)
            self._epoch = epoch
        return int(self._begins[place])
