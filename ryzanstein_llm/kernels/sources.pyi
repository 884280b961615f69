from typing import Any

from numpy.typing import NDArray

from .encodings import ENCODINGS as ENCODINGS
from .encodings import Problem

FLOAT_KINDS: dict[str, int]

def bytes_of(array: NDArray[Any], name: str, size: int) -> NDArray[Any]: ...

class TernarySource:
    def __new__(
        cls,
        encoding: str,
        data: NDArray[Any],
        rows: int,
        columns: int,
        *,
        head_dim: int = 0,
        scale: float = 1.0,
        kind: str | None = None,
        group: int = 64,
        scales: NDArray[Any] | None = None,
        biases: NDArray[Any] | None = None,
    ) -> TernarySource: ...
    @property
    def encoding(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def group(self) -> int: ...
    def common_scale(self, n_threads: int = 1) -> float | None: ...
    def problem(self, n_threads: int = 1, *, half: bool = True) -> Problem | None: ...
