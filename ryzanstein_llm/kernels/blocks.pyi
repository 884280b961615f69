from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .linear import TernaryMatrix
from .workspace import Workspace

def attention_half(
    hidden: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    q: TernaryMatrix,
    k: TernaryMatrix,
    v: TernaryMatrix,
    qkv: NDArray[np.float32],
    segments: Sequence[tuple[int, int, NDArray[np.uint64]]],
    layout: Any,
    layer: int,
    heads: int,
    rotary: tuple[NDArray[np.float32], NDArray[np.float32]],
    scale: float,
    attended: NDArray[np.float32],
    sub_norm: NDArray[np.float32] | None,
    o: TernaryMatrix,
    space: Workspace,
) -> None: ...
def feed_forward_half(
    hidden: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    gate: TernaryMatrix,
    up: TernaryMatrix,
    activation: str,
    gated: NDArray[np.float32],
    sub_norm: NDArray[np.float32] | None,
    down: TernaryMatrix,
    space: Workspace,
) -> None: ...
