"""The interface of a model family to the engine, and options for its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedModelError
from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout, Segment
from ..kernels.workspace import Workspace
from .head import Head

__all__ = ["CausalLM", "LoadOptions", "refuse_embedding_model"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class LoadOptions:
    """How weights are kept. No option but `activations` changes a bit of any result.

    Attributes
    ----------
    n_threads : int
        Number of threads for packing.
    skipping : bool or None
        Whether weights are laid out so that decoding can skip those that squared ReLU makes
        irrelevant. None: if the runs of memory are long enough to be worth skipping.
    weight_format : a key of weights.WEIGHT_FORMATS, or None
        How ternary weights are kept. None: the format that the tier in use is fastest with for a
        large model, "2bit" for others.
    activations : "int8", "float32" or None
        Inputs of projections, for models that were not trained with int8 activations: int8 with a
        scale for each group of columns, or float32 as they are, which is slower. This option does
        change results. None: "int8".
    """

    n_threads: int
    skipping: bool | None = None
    weight_format: str | None = None
    activations: str | None = None


class CausalLM(Protocol):
    """A decoder: token ids in, hidden states and logits out. It has no state; caches are passed in.

    Attributes
    ----------
    family : str
    head : Head
    config : the family's config object, with vocab_size, context_length, n_layers, hidden_size
    n_parameters, weight_bytes : int
    generates : bool
        Whether it was trained to continue texts. An embedding model was not: it has no output head
        of its own.
    weight_format : str
        How the ternary weights are kept that are not laid out for skipping.
    """

    family: str
    config: Any
    head: Head
    generates: bool

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
        workspace: Workspace,
        between: Callable[[], None] | None = None,
    ) -> Float32:
        """The last hidden states (n, hidden), before the final norm, of n tokens: those of the
        first segment, then of the second, and so on. Appends their keys and values to the caches.
        `between` is called between compute calls, and may run a pass over other caches."""
        ...

    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        """Final norm and head: float32 (n, vocab)."""
        ...

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        """Final norm and head, for each hidden state (n, hidden) only the logits that its query
        needs. They are equal bit for bit to those of `logits`."""
        ...


def refuse_embedding_model(graph: CausalLM, path: Path) -> None:
    """Raise UnsupportedModelError if the model was not trained to continue texts."""
    if not graph.generates:
        raise UnsupportedModelError(
            f"{path}: this model embeds texts and cannot continue them; use embed()"
        )
