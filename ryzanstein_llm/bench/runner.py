"""A runner that keeps count of what its passes cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..interfaces.head_query import Candidates, HeadQuery
from ..kernels.linear import TernaryMatrix, norm_project
from ..engine.kv_cache import KVCache
from ..models import CausalLM
from ..runner import CancelFlag, Float32, Runner
from .traffic import Densities

__all__ = ["Counters", "MeasuredRunner"]


@dataclass(frozen=True)
class Counters:
    """What has added up since a runner was made; subtract an earlier one for a stretch between.

    Attributes
    ----------
    kernel_seconds : float
        Time within parallel regions, as the calling thread sees it.
    head_rows : int
        Rows of the head whose logits `candidates` gave.
    skipping : tuple of int
        As `Workspace.skipping`.
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
        """Shares of what might have been skipped that were read."""
        rows_read, rows_seen, columns_read, columns_seen = self.skipping
        return Densities(
            rows_read / rows_seen if rows_seen else None,
            columns_read / columns_seen if columns_seen else None,
        )


class MeasuredRunner(Runner):
    """Passes of a model with one number of threads. Several may share a graph, so that several
    numbers of threads are measured on one copy of the weights."""

    def __init__(self, graph: CausalLM, n_threads: int) -> None:
        super().__init__(graph, n_threads)
        self._head_rows = 0

    def counters(self) -> Counters:
        """The counts so far."""
        return Counters(self._space.kernel_seconds, self._head_rows, self._space.skipping)

    def candidates(
        self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag, query: HeadQuery
    ) -> Candidates:
        result = super().candidates(cache, ids, cancel, query)
        self._head_rows += len(result.logits)
        return result

    def project(self, x: Float32, matrix: TernaryMatrix, out: Float32) -> None:
        """out (n, rows) = matrix @ int8(x), x (n, columns): a projection by itself."""
        norm_project(x, None, 1e-5, [matrix], [out], self._space)
