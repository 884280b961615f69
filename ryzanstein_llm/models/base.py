"""What every family offers to the engine, and what families share in reading configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats import Checkpoint
from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout
from ..kernels.packing import rotary_table
from ..kernels.workspace import Workspace
from ..packed_cache.weights import PackedWeights
from .head import FloatHead

__all__ = ["CausalLM", "ConfigReader", "LoadOptions", "RotaryTable", "Segment"]

# rows in this pass, position of the first, block addresses of the cache
Segment = tuple[int, int, NDArray[np.uint64]]
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


class RotaryTable:
    """Cosines and sines by position, grown as positions are reached."""

    def __init__(self, theta: float, head_dim: int, context_length: int) -> None:
        self._theta, self._head_dim, self._context_length = theta, head_dim, context_length
        self._tables = rotary_table(theta, head_dim, 0, min(1024, context_length))

    def upto(self, positions: int) -> tuple[Float32, Float32]:
        """(cos, sin), float32 (at least `positions`, head_dim // 2) each."""
        have = len(self._tables[0])
        if positions > have:
            end = min(max(2 * have, positions), max(self._context_length, positions))
            cosines, sines = rotary_table(self._theta, self._head_dim, have, end)
            self._tables = (
                np.concatenate((self._tables[0], cosines)),
                np.concatenate((self._tables[1], sines)),
            )
        return self._tables


@dataclass(frozen=True)
class ConfigReader:
    """Typed access to config.json; errors name the file, the key and the value."""

    checkpoint: Checkpoint

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default where it is absent or null."""
        found = self.checkpoint.config.get(key)
        return default if found is None else found

    def wrong(self, key: str, value: Any, expected: str) -> FormatError:
        """The exception for a value that makes no sense."""
        return FormatError(
            f"{self.checkpoint.path}: config.json: {key} must be {expected}, not {value!r}"
        )

    def integer(
        self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24
    ) -> int:
        """An integer in low..high; required if there is no default."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, value, f"an integer in {low}..{high}")
        return value

    def positive(self, key: str, default: float | None = None, *, source: Any = None) -> float:
        """A finite number above 0; `source` is a nested object to read instead."""
        value = self.value(key, default) if source is None else source
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
            raise self.wrong(key, value, "a positive number")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> dict[str, Any]:
        """A nested object, {} where absent or null."""
        value = self.value(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, value, "an object")
        return value
