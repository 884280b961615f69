"""Who is told the tokens of a sequence."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Listener"]


class Listener(Protocol):
    """Is told each token, in the thread that computed it.

    Attributes
    ----------
    unread : bool
        Whether there is something to read before the end.
    """

    @property
    def unread(self) -> bool: ...

    def add_token(self, token: int) -> bool:
        """Take the token that was chosen. Returns whether the sequence ends with it."""
        ...

    def replace_tokens(self, tokens: list[int]) -> bool:
        """Replace all tokens by these. Returns whether the sequence ends with the last one."""
        ...
