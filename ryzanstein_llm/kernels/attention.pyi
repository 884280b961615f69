from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

KV_KINDS: dict[str, int]
BLOCK_POSITIONS: int
MAX_HEAD_DIM: int

def rope_append_attend(
    qkv: NDArray[np.float32],
    segments: Sequence[tuple[int, int, NDArray[np.uint64]]],
    layout: Any,
    layer: int,
    heads: int,
    rotary: tuple[NDArray[np.float32], NDArray[np.float32]],
    scale: float,
    out: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
