from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

MAX_COLUMNS: int
TERNARY_LAYOUT_VERSION: int
ACTIVATIONS: dict[str, int]
QUANTIZATIONS: dict[str, int]

class TernaryMatrix:
    def __new__(
        cls,
        codes: NDArray[np.uint8],
        rows: int,
        columns: int,
        scale: float = 1.0,
        layout: str = "tiles",
        quantization: str | None = None,
    ) -> TernaryMatrix: ...
    @property
    def codes(self) -> NDArray[np.uint8]: ...
    @property
    def layout(self) -> str: ...
    @property
    def quantization(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def read_bytes(self) -> int: ...
    def dense(self) -> NDArray[np.int8]: ...
    def look_up(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...

def norm_project(
    x: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    matrices: Sequence[TernaryMatrix],
    outputs: Sequence[NDArray[np.float32]],
    workspace: Workspace,
    accumulate: bool = False,
) -> None: ...
def norm_gated(
    x: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    gate: TernaryMatrix,
    up: TernaryMatrix,
    activation: str,
    out: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
def norm_dense(
    x: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    weights: NDArray[Any],
    kind: str,
    out: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
