"""The output head: from hidden states to logits, of all tokens or only of those that are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor
from ..interfaces.head_query import Candidates, HeadQuery
from ..kernels.head import ScreenedHead
from ..kernels.head_rows import row_logits
from ..kernels.linear import norm_dense, norm_project
from ..kernels.ternary_matrix import TernaryMatrix
from ..kernels.workspace import Workspace
from .head_draw import enough_to_draw

__all__ = ["FloatHead", "Head", "TernaryHead"]

Float32 = NDArray[np.float32]

FEW = 8
"""If a query needs at most one in FEW tokens of the vocabulary, the full head is not read."""

DRAW_FEW = 3
"""The same for a draw that has read the screen already: single rows come at two thirds of the
speed of the full head."""


class Head(ABC):
    """A final RMSNorm and a matrix of one row for each token.

    Attributes
    ----------
    norm : float32 array of shape (hidden_size,)
    eps : float
        The epsilon of the norm.
    vocab_size, hidden_size : int
        Rows and columns of the matrix.
    nbytes : int
        Bytes of the matrix.
    screen : ScreenedHead or None
        The screen of the same matrix.
    """

    def __init__(
        self, norm: Float32, eps: float, shape: tuple[int, int], nbytes: int,
        screen: ScreenedHead | None = None,
    ) -> None:  # fmt: skip
        self.norm, self.eps, self.nbytes, self.screen = norm, eps, nbytes, screen
        self.vocab_size, self.hidden_size = shape

    @property
    def screen_bytes(self) -> int:
        """Bytes of the screen; 0 if there is none."""
        return 0 if self.screen is None else self.screen.nbytes

    @abstractmethod
    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        """Logits of all tokens, float32 (n, vocab_size), for hidden states float32 (n,
        hidden_size)."""

    def way(self, query: HeadQuery) -> str:
        """How a query is answered: "full" (all rows), "rows" (only the allowed ones) or
        "screen"."""
        return "full"

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        """The answers to one query for each hidden state. Queries that are answered in the same way
        are computed together; results do not depend on that."""
        return self._all(hidden, queries, workspace)

    def _all(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        found = []
        for logits, query in zip(self.logits(hidden, workspace), queries, strict=True):
            if query.allowed is None:
                found.append(Candidates(None, logits))
            else:
                ids = np.flatnonzero(query.allowed)
                found.append(Candidates(ids, logits[ids]))
        return found


class TernaryHead(Head):
    """A head of ternary weights with scales for groups. Two bits a weight need no screen.

    Parameters
    ----------
    matrix : TernaryMatrix of shape (vocab_size, hidden_size), in a layout of groups
    norm, eps
        As in `Head`.
    """

    def __init__(self, matrix: TernaryMatrix, norm: Float32, eps: float) -> None:
        super().__init__(norm, eps, (matrix.rows, matrix.columns), matrix.nbytes)
        self.matrix = matrix

    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        out = np.empty((len(hidden), self.vocab_size), np.float32)
        norm_project(
            np.ascontiguousarray(hidden), self.norm, self.eps, [self.matrix], [out], workspace,
            head=True,
        )  # fmt: skip
        return out


class FloatHead(Head):
    """A head of floats, with a screen that finds the likeliest tokens.

    Parameters
    ----------
    matrix : Tensor of shape (vocab_size, hidden_size)
    norm, eps, screen
        As in `Head`.
    """

    def __init__(
        self, matrix: Tensor, norm: Float32, eps: float, screen: ScreenedHead | None
    ) -> None:
        rows, columns = matrix.array.shape
        super().__init__(norm, eps, (rows, columns), matrix.array.nbytes, screen)
        self.matrix = matrix

    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        out = np.empty((len(hidden), self.vocab_size), np.float32)
        norm_dense(
            hidden, self.norm, self.eps, self.matrix.array, self.matrix.dtype, out, workspace
        )
        return out

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        ways = [self.way(query) for query in queries]
        answer = {"full": self._all, "rows": self._rows, "screen": self._search}
        if len(set(ways)) == 1:
            return answer[ways[0]](hidden, queries, workspace)
        answers: dict[int, Candidates] = {}
        for way in set(ways):
            members = [i for i, taken in enumerate(ways) if taken == way]
            found = answer[way](hidden[members], [queries[i] for i in members], workspace)
            answers.update(zip(members, found, strict=True))
        return [answers[i] for i in range(len(queries))]

    def way(self, query: HeadQuery) -> str:
        few = self.vocab_size // FEW
        if query.allowed is not None and np.count_nonzero(query.allowed) <= few:
            return "rows"
        if self.screen is None or query.count is None:
            return "full"
        named = 0 if query.also is None else len(query.also)
        return "screen" if query.count + named <= few else "full"

    def _rows(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        ids = [np.flatnonzero(query.allowed) for query in queries]  # type: ignore[arg-type]
        matrix = self.matrix
        logits = row_logits(hidden, self.norm, self.eps, matrix.array, matrix.dtype, ids, workspace)
        return [Candidates(*both) for both in zip(ids, logits, strict=True)]

    def _search(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        assert self.screen is not None
        counts = [query.count or 1 for query in queries]
        margins = [query.margin for query in queries]
        also = allowed = None
        if any(query.also is not None for query in queries):
            also = [_allowed_only(query) for query in queries]
        if any(query.allowed is not None for query in queries):
            allowed = [query.allowed for query in queries]
        found = self.screen.likeliest(
            hidden, self.norm, self.eps, workspace, counts, margins, also, allowed
        )
        candidates = [Candidates(ids, logits) for ids, logits in found]
        # every search uses the same buffers, so what the draws need comes before the next one
        missing = []
        for i, query in enumerate(queries):
            if query.draw is not None:
                most = self.vocab_size // DRAW_FEW
                enough = enough_to_draw(self.screen, workspace, i, query.draw, candidates[i], most)
                if enough is None:
                    missing.append(i)
                else:
                    candidates[i] = enough
        if missing:
            everything = self._all(hidden[missing], [queries[i] for i in missing], workspace)
            for i, full in zip(missing, everything, strict=True):
                candidates[i] = full
        return candidates


def _allowed_only(query: HeadQuery) -> NDArray[np.int64] | None:
    if query.also is None or query.allowed is None:
        return query.also
    return query.also[query.allowed[query.also]]
