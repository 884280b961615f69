"""A runner that keeps count of what its passes cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kv_cache import KVCache
from ..models import CausalLM
from ..runner import CancelFlag, Float32, Runner

__all__ = ["Counters", "MeasuredRunner"]


@dataclass(frozen=True)
class Counters:
    """What has added up since a runner was made; subtract an earlier one for a stretch between.

    Attributes
    ----------
    kernel_seconds : float
        Time within parallel regions, as the calling thread sees it.
    head_rows : int
        Rows of the head whose stored floats were read by `likeliest`.
    """

    kernel_seconds: float
    head_rows: int

    def __sub__(self, earlier: Counters) -> Counters:
        return Counters(
            self.kernel_seconds - earlier.kernel_seconds, self.head_rows - earlier.head_rows
        )


class MeasuredRunner(Runner):
    """Passes of a model with one number of threads. Several may share a graph, so that several
    numbers of threads are measured on one copy of the weights."""

    def __init__(self, graph: CausalLM, n_threads: int) -> None:
        super().__init__(graph, n_threads)
        self._head_rows = 0

    def counters(self) -> Counters:
        """The counts so far."""
        return Counters(self._space.kernel_seconds, self._head_rows)

    def likeliest(
        self, cache: KVCache, ids: Sequence[int], cancel: CancelFlag, count: int, margin: float
    ) -> tuple[NDArray[np.int64] | None, Float32]:
        result = super().likeliest(cache, ids, cancel, count, margin)
        self._head_rows += len(result[1])
        return result
