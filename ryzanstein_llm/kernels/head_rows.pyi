from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

def row_logits(
    hidden: NDArray[np.float32],
    norm: NDArray[np.float32] | None,
    eps: float,
    weights: NDArray[Any],
    kind: str,
    ids: Sequence[NDArray[np.int64]],
    workspace: Workspace,
) -> list[NDArray[np.float32]]: ...
def rows_by_token(
    ids: Sequence[NDArray[np.int64] | None] | None, n: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]: ...
