"""The base of all errors."""

from __future__ import annotations

from typing import Self

__all__ = ["RyzansteinError"]


class RyzansteinError(Exception):
    """Base of every exception that the library raises on purpose."""

    def about(self, what: str) -> Self:
        """The same error, with a message that begins with `what`, such as "prompt[3]"."""
        self.args = (f"{what}: {self}", *self.args[1:])
        return self
