from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

MAX_SCREEN_COLUMNS: int
SCREEN_LAYOUT_VERSION: int

class ScreenedHead:
    def __init__(
        self,
        weights: NDArray[Any],
        kind: str,
        n_threads: int,
        allocate: Callable[[int], NDArray[np.uint8]] = ...,
        packed: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None,
    ) -> None: ...
    @property
    def weights(self) -> NDArray[Any]: ...
    @property
    def kind(self) -> str: ...
    @property
    def blocks(self) -> NDArray[np.uint8]: ...
    @property
    def stats(self) -> NDArray[np.float32]: ...
    @property
    def finite(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    def bounds(self, workspace: Workspace) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def likeliest(
        self,
        hidden: NDArray[np.float32],
        norm: NDArray[np.float32] | None,
        eps: float,
        workspace: Workspace,
        count: int | Sequence[int] = 1,
        margin: float | Sequence[float] = 0.0,
        also: Sequence[NDArray[np.int64] | None] | None = None,
        allowed: Sequence[NDArray[np.bool_] | None] | None = None,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]: ...
