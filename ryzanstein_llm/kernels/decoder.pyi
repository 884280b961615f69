from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .linear import TernaryMatrix
from .workspace import Workspace

class DecoderLayer:
    input_norm: NDArray[np.float32] | None
    attention_sub_norm: NDArray[np.float32] | None
    post_attention_norm: NDArray[np.float32] | None
    ffn_sub_norm: NDArray[np.float32] | None
    activation: str
    q: TernaryMatrix
    k: TernaryMatrix
    v: TernaryMatrix
    o: TernaryMatrix
    gate: TernaryMatrix
    up: TernaryMatrix
    down: TernaryMatrix
    eps: float
    def __init__(
        self,
        input_norm: NDArray[np.float32] | None,
        q: TernaryMatrix,
        k: TernaryMatrix,
        v: TernaryMatrix,
        attention_sub_norm: NDArray[np.float32] | None,
        o: TernaryMatrix,
        post_attention_norm: NDArray[np.float32] | None,
        gate: TernaryMatrix,
        up: TernaryMatrix,
        activation: str,
        ffn_sub_norm: NDArray[np.float32] | None,
        down: TernaryMatrix,
        eps: float,
    ) -> None: ...
    @property
    def matrices(self) -> list[TernaryMatrix]: ...

def decoder_layers(
    hidden: NDArray[np.float32],
    layers: Sequence[DecoderLayer],
    first: int,
    segments: Sequence[tuple[int, int, NDArray[np.uint64]]],
    layout: Any,
    heads: int,
    rotary: tuple[NDArray[np.float32], NDArray[np.float32]],
    scale: float,
    qkv: NDArray[np.float32],
    attended: NDArray[np.float32],
    gated: NDArray[np.float32],
    workspace: Workspace,
) -> None: ...
