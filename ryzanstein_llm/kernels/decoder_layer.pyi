from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .ternary_matrix import TernaryMatrix

PROJECTIONS: tuple[str, ...]

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
    q_norm: NDArray[np.float32] | None
    k_norm: NDArray[np.float32] | None
    rotate_first: bool
    attention_output_norm: NDArray[np.float32] | None
    ffn_output_norm: NDArray[np.float32] | None
    projection_norms: dict[str, NDArray[np.float32]]
    biases: dict[str, NDArray[np.float32]]
    residual_multiplier: float
    rotary: int
    window: int
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
        *,
        q_norm: NDArray[np.float32] | None = None,
        k_norm: NDArray[np.float32] | None = None,
        rotate_first: bool = False,
        attention_output_norm: NDArray[np.float32] | None = None,
        ffn_output_norm: NDArray[np.float32] | None = None,
        projection_norms: Mapping[str, NDArray[np.float32]] | None = None,
        biases: Mapping[str, NDArray[np.float32]] | None = None,
        residual_multiplier: float = 1,
        rotary: int = 0,
        window: int = 0,
    ) -> None: ...
    @property
    def matrices(self) -> list[TernaryMatrix]: ...
