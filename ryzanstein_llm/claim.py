"""Who owns the tokens that a generation continues."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

__all__ = ["Claim", "Owner"]


class Claim:
    """What an owner knows of the generation that continues its tokens. It does not keep the
    generation alive: when a stream is dropped, its owner sees that on its next use.

    There is no finaliser, because Python would swallow a Ctrl-C that comes while it runs.

    Attributes
    ----------
    generation : weak reference to Generation
    tokens : list of int, or None
        What the owner's tokens become if the generation is dropped: prompt and continuation so far.
        None leaves them unchanged.
    """

    def __init__(self, generation: Any) -> None:
        self.generation = weakref.ref(generation)
        self.tokens: list[int] | None = None


class Owner(Protocol):
    """The owner of the tokens that a generation continues."""

    def claim(self, claim: Claim) -> list[int]:
        """The tokens before the prompt. No other generation may continue them until `settle`.

        Raises
        ------
        SessionBusyError, ClosedError
        """
        ...

    def settle(self, claim: Claim, tokens: list[int] | None) -> None:
        """The generation is over, and the owner's tokens are now these; None leaves them unchanged.
        Does nothing if the claim was settled already."""
        ...
