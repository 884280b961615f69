import numpy as np
from numpy.typing import NDArray

from .head import ScreenedHead
from .workspace import Workspace

STEPS: int
STEPS_PER_UNIT: int

class HeadRest:
    def __init__(
        self, head: ScreenedHead, workspace: Workspace, token: int, temperature: float
    ) -> None: ...
    @property
    def reference(self) -> float: ...
    def counts(self) -> NDArray[np.int64]: ...
    def rows(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
