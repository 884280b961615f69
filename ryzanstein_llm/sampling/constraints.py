"""What a constraint is: which tokens may come next. The engine knows ids only, so a grammar and its
text are somewhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Constraint"]


class Constraint(Protocol):
    """Says which tokens may continue one sequence. It depends only on the tokens that it was told
    with `follow`, so that an interrupted choice can be repeated: a choice does not change it."""

    @property
    def finished(self) -> bool:
        """Whether nothing more may follow, so that the sequence ends here."""
        ...

    def follow(self, tokens: Sequence[int], prompt_tokens: int) -> None:
        """Take note of the tokens that came since the last call. The first `prompt_tokens` are the
        prompt, which is not constrained."""
        ...

    def forget(self) -> None:
        """Forget all tokens. The next `follow` begins again."""
        ...

    def allowed(self) -> NDArray[np.bool_] | None:
        """bool array of shape (vocab_size,), new each time, with at least one True; None: every
        token is allowed."""
        ...

    def forced(self) -> int | None:
        """The next token, if only one is allowed and that is known without `allowed`."""
        ...
