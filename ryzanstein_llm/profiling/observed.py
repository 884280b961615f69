"""A wrapper around a model that reports its computations to observers. Exists only while somebody
profiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout
from ..kernels.workspace import Workspace
from .costs import Cost, candidate_costs, head_costs, layer_costs

if TYPE_CHECKING:
    from ..models import CausalLM

__all__ = ["Observable", "ObservedGraph", "Observer", "Work"]

Float32 = NDArray[np.float32]
Segment = tuple[int, int, NDArray[np.uint64]]
Tallies = Mapping[str, tuple[int, float, float]]  # as Workspace.operations


@dataclass
class Work:
    """One computation: the layers of a pass, or the head after it.

    Whatever takes time is computed only when somebody asks for it, so that it does not delay the
    next pass.

    Attributes
    ----------
    stage : "layers" or "head"
    tokens : int
    decoding : bool
        Whether the pass had one token of each sequence.
    seconds : float
        Total time.
    before, after : Workspace.operations
    costs : callable
        Returns a dict from name to Cost.
    """

    stage: str
    tokens: int
    decoding: bool
    seconds: float = 0.0
    before: Tallies = field(default_factory=dict)
    after: Tallies = field(default_factory=dict)
    costs: Callable[[], Mapping[str, Cost]] = dict

    @property
    def operations(self) -> dict[str, tuple[int, float, float]]:
        """For each operation that ran, by name: (calls, seconds, seconds of waiting)."""
        found = {}
        for name, (calls, seconds, wait) in self.after.items():
            then = self.before[name]
            if calls > then[0]:
                found[name] = (calls - then[0], seconds - then[1], wait - then[2])
        return found


class Observer(Protocol):
    def worked(self, work: Work) -> None:
        """A computation has ended."""
        ...

    def sampled(self, seconds: float) -> None:
        """A token was chosen."""
        ...


class Observable(Protocol):
    def observe(self, observer: Observer) -> None:
        """Report every computation to this observer from now on."""
        ...

    def ignore(self, observer: Observer) -> None:
        """Report nothing more to this observer."""
        ...


class ObservedGraph:
    """
    Parameters
    ----------
    graph : CausalLM
    observers : sequence of Observer
    """

    def __init__(self, graph: CausalLM, observers: Sequence[Observer]) -> None:
        self._graph, self._observers = graph, observers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def hidden_states(
        self,
        ids: NDArray[np.int64],
        segments: Sequence[Segment],
        layout: KVLayout,
        workspace: Workspace,
        between: Callable[[], None] | None = None,  # not called: its pass would count twice
    ) -> Float32:
        decoding = all(rows == 1 for rows, _, _ in segments)
        before = workspace.skipping
        with self._observed(Work("layers", len(ids), decoding), workspace) as work:
            hidden = self._graph.hidden_states(ids, segments, layout, workspace)
        skipping = [now - then for now, then in zip(workspace.skipping, before, strict=True)]
        shapes = [(rows, position) for rows, position, _ in segments]
        self._tell(work, partial(layer_costs, self._graph, layout, shapes, skipping))
        return hidden

    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        with self._observed(Work("head", len(hidden), False), workspace) as work:
            logits = self._graph.logits(hidden, workspace)
        self._tell(work, partial(head_costs, self._graph, len(hidden)))
        return logits

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        with self._observed(Work("head", len(hidden), False), workspace) as work:
            found = self._graph.candidates(hidden, queries, workspace)
        ways = [self._graph.head.way(query) for query in queries]
        sizes = [len(each.logits) for each in found]
        for i, each in enumerate(found):
            if ways[i] == "screen" and each.ids is None:  # it was not enough for a draw
                ways[i] = "full"
                ways.append("screen")
                sizes.append(0)
        self._tell(work, partial(candidate_costs, self._graph, ways, sizes))
        return found

    @contextmanager
    def _observed(self, work: Work, workspace: Workspace) -> Iterator[Work]:
        work.before = workspace.operations
        start = time.perf_counter()
        yield work
        work.seconds = time.perf_counter() - start
        work.after = workspace.operations

    def _tell(self, work: Work, costs: Callable[[], Mapping[str, Cost]]) -> None:
        work.costs = costs
        for observer in self._observers:
            observer.worked(work)
