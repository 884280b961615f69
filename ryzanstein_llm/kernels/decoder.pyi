from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoder_layer import DecoderLayer
from .workspace import Workspace

def decoder_layers(
    hidden: NDArray[np.float32],
    layers: Sequence[DecoderLayer],
    first: int,
    segments: Sequence[tuple[int, int, NDArray[np.uint64]]],
    layout: Any,
    heads: int,
    rotaries: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    scale: float,
    qkv: NDArray[np.float32],
    attended: NDArray[np.float32],
    gated: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
