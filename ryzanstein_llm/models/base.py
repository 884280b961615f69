"""What every family offers to the engine, and how its weights are to be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout, Segment
from ..kernels.workspace import Workspace
from ..packed_cache.weights import PackedWeights
from .head import FloatHead

__all__ = ["CausalLM", "LoadOptions"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class LoadOptions:
    """How weights are to be kept; none of it changes a bit of any result.

    Attributes
    ----------
    n_threads : int
        Threads for repacking.
    skipping : bool or None
        Whether weights lie so that decoding can leave out those that squared ReLU makes
        irrelevant; None: where runs of memory are long enough for it to pay.
    weight_format : a key of weights.WEIGHT_FORMATS, or None
        How ternary weights are kept; None: for a large model as the tier in use multiplies
        fastest, else "2bit".
    progress : callable (done, total, what) or None
    packed : PackedWeights
        Asked for arrays that were packed before, and told of all that are used.
    """

    n_threads: int
    skipping: bool | None = None
    weight_format: str | None = None
    progress: Callable[[int, int, str], None] | None = None
    packed: PackedWeights = field(default_factory=PackedWeights)


class CausalLM(Protocol):
    """A decoder: token ids in, hidden states and logits out. Stateless; caches are passed in.

    Attributes
    ----------
    family : str
    head : FloatHead
    config : the family's config object, with vocab_size, context_length, n_layers, hidden_size
    n_parameters, weight_bytes : int
    weight_format : str
        How ternary weights are kept that are not laid out for skipping.
    """

    family: str
    config: Any
    head: FloatHead

    @property
    def n_parameters(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def weight_format(self) -> str: ...
    def kv_layout(self, kind: str) -> KVLayout:
        """The cache layout for a storage kind."""
        ...

    def hidden_states(
        self,
        ids: NDArray[np.int64],
        segments: Sequence[Segment],
        layout: KVLayout,
        space: Workspace,
        between: Callable[[], None] | None = None,
    ) -> Float32:
        """Last hidden states (n, hidden), before the final norm, of n tokens that belong to the
        sequences of `segments` in turn; appends their keys and values to the caches. `between` is
        called between compute calls, and may run a pass over other caches."""
        ...

    def logits(self, hidden: Float32, space: Workspace) -> Float32:
        """Final norm and head: float32 (n, vocab)."""
        ...

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], space: Workspace
    ) -> list[Candidates]:
        """Final norm and head, for each hidden state (n, hidden) as far as its query asks; bits as
        from `logits`."""
        ...
