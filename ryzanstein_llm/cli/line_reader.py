"""Messages that a person types, or that come through a pipe."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import InvalidParameterError
from .console import write

__all__ = ["FENCE", "MessageReader"]

PROMPT = "> "
MORE = "… "

FENCE = '"""'
"""A line that begins a message of several lines, and the line that ends it."""


class MessageReader:
    """Reads one message after the other. In a terminal with the package prompt_toolkit, lines can
    be edited and earlier ones come back with the arrow keys; otherwise lines are read as they are.

    Attributes
    ----------
    interactive : bool
        Whether a person types.
    """

    def __init__(self) -> None:
        self.interactive = _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
        self._editor = _editor() if self.interactive else None

    def read(self) -> str | None:
        """The next message; None at the end of the input.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C.
        """
        line = self._line(PROMPT)
        if line is None or line.strip() != FENCE:
            return line
        lines: list[str] = []
        while (line := self._line(MORE)) is not None and line.strip() != FENCE:
            lines.append(line)
        return "\n".join(lines)

    def _line(self, prompt: str) -> str | None:
        if self._editor is not None:
            try:
                text: str = self._editor.prompt(prompt)
            except EOFError:
                return None
            return text
        if self.interactive:
            write(prompt)
        return _read_line()


def _read_line() -> str | None:
    """A line of standard input, without its end. UTF-8 in every locale."""
    if sys.stdin is None:
        return None
    raw = sys.stdin.buffer.readline()
    if not raw:
        return None
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"standard input is not UTF-8: {error}") from None


def _editor() -> Any:
    """A line editor; None if the terminal cannot move its cursor, or the package is missing."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
    except ImportError:
        return None
    keys = KeyBindings()

    def new_line(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    keys.add("escape", "enter")(new_line)  # Alt-Enter
    return PromptSession(key_bindings=keys)


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False
