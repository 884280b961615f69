from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encodings import Problem
from .sources import TernarySource

FLOAT_KINDS: dict[str, int]
LAYOUTS: dict[str, int]
GROUP_LAYOUTS: dict[str, int]

def whole_layout() -> str: ...
def aligned_empty(size: int, align: int = 64) -> NDArray[np.uint8]: ...
def storage_shape(rows: int, columns: int, layout: str = "tiles") -> tuple[int, ...]: ...
def pack_source(
    source: TernarySource,
    n_threads: int,
    allocate: Callable[[int], NDArray[np.uint8]] = ...,
    layout: str = "tiles",
) -> tuple[NDArray[np.uint8], Problem | None]: ...
def pack_hf(
    packed: NDArray[np.uint8],
    rows: int,
    n_threads: int,
    allocate: Callable[[int], NDArray[np.uint8]] = ...,
    layout: str = "tiles",
) -> tuple[NDArray[np.uint8], bool]: ...
def check_floats(weights: NDArray[Any], kind: str) -> None: ...
def pack_float(
    weights: NDArray[Any],
    kind: str,
    n_threads: int,
    allocate: Callable[[int], NDArray[np.uint8]] = ...,
    layout: str = "tiles",
) -> tuple[NDArray[np.uint8], float]: ...
def screen_shapes(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]: ...
def pack_screen(
    weights: NDArray[Any],
    kind: str,
    n_threads: int,
    allocate: Callable[[int], NDArray[np.uint8]] = ...,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]: ...
def unpack(
    codes: NDArray[np.uint8], rows: int, columns: int, layout: str = "tiles"
) -> NDArray[np.int8]: ...
def unpack_scales(
    codes: NDArray[np.uint8], rows: int, columns: int, layout: str
) -> NDArray[np.float32]: ...
def ternary_rows_as_floats(
    codes: NDArray[np.uint8],
    rows: int,
    columns: int,
    layout: str,
    ids: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None: ...
def rotary_powers(theta: float, head_dim: int) -> NDArray[np.float32]: ...
def rotary_table(
    inverse_frequencies: NDArray[np.float32], begin: int, end: int, factor: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
