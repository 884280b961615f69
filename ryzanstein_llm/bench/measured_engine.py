"""An engine that counts the costs of its passes."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.compute import Float32
from ..engine.engine import Engine
from ..engine.shares import Answers, Share
from ..kernels.linear import norm_project
from ..kernels.ternary_matrix import TernaryMatrix
from ..models import CausalLM
from .traffic import Densities

__all__ = ["Counters", "MeasuredEngine"]


@dataclass(frozen=True)
class Counters:
    """Counts since an engine was made. The difference of two gives the counts between them.

    Attributes
    ----------
    kernel_seconds : float
        Time within parallel regions, as the calling thread sees it.
    head_rows : int
        Number of rows of the head whose logits were computed to choose tokens.
    skipping : tuple of int
        See `Workspace.skipping`.
    """

    kernel_seconds: float
    head_rows: int
    skipping: tuple[int, ...]

    def __sub__(self, earlier: Counters) -> Counters:
        return Counters(
            self.kernel_seconds - earlier.kernel_seconds,
            self.head_rows - earlier.head_rows,
            tuple(now - then for now, then in zip(self.skipping, earlier.skipping, strict=True)),
        )

    @property
    def densities(self) -> Densities:
        """Shares of the rows and columns that could be skipped but were read."""
        rows_read, rows_seen, columns_read, columns_seen = self.skipping
        return Densities(
            rows_read / rows_seen if rows_seen else None,
            columns_read / columns_seen if columns_seen else None,
        )


class MeasuredEngine(Engine):
    """The engine of a model with another number of threads, on the same weights, keys and values,
    so that several numbers of threads are measured on one copy of them.

    Parameters
    ----------
    engine : Engine
        The engine whose keys and values it shares.
    n_threads : int
    graph : CausalLM, optional
        Another copy of the weights.
    """

    def __init__(self, engine: Engine, n_threads: int, graph: CausalLM | None = None) -> None:
        self._head_rows = 0
        model = engine.graph if graph is None else graph
        super().__init__(model, n_threads, engine.store)

    def counters(self) -> Counters:
        """The counts so far."""
        return Counters(self._workspace.kernel_seconds, self._head_rows, self._workspace.skipping)

    def _compute(self, shares: list[Share]) -> Answers:
        answers = super()._compute(shares)
        self._head_rows += sum(len(each.logits) for _, found in answers for each in found)
        return answers

    def project(self, x: Float32, matrix: TernaryMatrix, out: Float32) -> None:
        """Compute one projection: out (n, rows) = matrix @ int8(x), with x (n, columns)."""
        norm_project(x, None, 1e-5, [matrix], [out], self._workspace)
