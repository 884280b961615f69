from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ternary_matrix import TernaryMatrix
from .workspace import Workspace

ACTIVATIONS: dict[str, int]

def norm_project(
    x: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    matrices: Sequence[TernaryMatrix],
    outputs: Sequence[NDArray[np.float32]],
    workspace: Workspace,
    accumulate: bool = False,
    head: bool = False,
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
def layer_scratch(hidden: int, widest: int, tokens: int) -> int: ...
def norm_dense(
    x: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    weights: NDArray[Any],
    kind: str,
    out: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
