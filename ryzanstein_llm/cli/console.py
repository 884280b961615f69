"""Standard output and standard error for commands."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

from ..errors import BenchError, KernelSelfTestError, ResourceLimitError

__all__ = [
    "PROGRAM",
    "abandon_stdout",
    "can_style",
    "log_messages",
    "remark",
    "say",
    "say_error",
    "standard_streams",
    "terminal_columns",
    "wrapped",
    "write",
]

PROGRAM = "ryzanstein-llm"


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """While a command runs: standard streams that never fail on a character, also in a process that
    was started with them closed."""
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
            _replace_unencodable(getattr(sys, name))
        try:
            yield
        finally:
            # If the disk is full, Python would try again when it exits, and complain.
            try:
                sys.stdout.flush()
            except (OSError, ValueError):
                abandon_stdout()


@contextlib.contextmanager
def log_messages(verbose: int) -> Iterator[None]:
    """Show log messages of the library on standard error.

    Parameters
    ----------
    verbose : int
        0 shows warnings, 1 also information, 2 and more also debugging.
    """
    log = logging.getLogger("ryzanstein_llm")
    level = log.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{PROGRAM}: %(levelname)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def write(text: str) -> None:
    """Write text to standard output at once, without waiting for a full buffer."""
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def wrapped(text: str, stream: TextIO) -> str:
    """The text with its lines broken between words where `stream`, if it is a terminal, would break
    them within a word."""
    if not stream.isatty():
        return text
    from ..text_table import as_text

    return as_text([text], terminal_columns(stream))[:-1]


def terminal_columns(stream: TextIO) -> int:
    """How wide the terminal of `stream` is. That of standard output, which Python looks at, may be
    none: it may be a file."""
    if not os.environ.get("COLUMNS"):
        with contextlib.suppress(OSError, ValueError):  # ValueError: it has no descriptor
            columns = os.get_terminal_size(stream.fileno()).columns
            if columns > 0:
                return columns
    return shutil.get_terminal_size().columns


def say(message: str, before: str = "") -> None:
    """One line on standard error, with the program's name. The lines `before` are printed first."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        line = wrapped(f"{PROGRAM}: {' '.join(message.split())}", sys.stderr)
        sys.stderr.write(f"{before}{line}\n")
        sys.stderr.flush()


def remark(text: str) -> None:
    """A dim line in brackets on standard error, for a person at a terminal."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if can_style() and sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{dim}{wrapped(f'({text})', sys.stderr)}{plain}\n")
    sys.stderr.flush()


def can_style() -> bool:
    """Whether the user's terminal shows styles, and the user wants them."""
    return "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"


def say_error(error: Exception) -> int:
    """Show an error as one line on standard error. Returns its exit code."""
    memory = "not enough memory: " if isinstance(error, MemoryError) else ""
    say(f"error: {memory}{error}")
    machine = (MemoryError, BenchError, KernelSelfTestError, ResourceLimitError)
    return 1 if isinstance(error, machine) else 2


def abandon_stdout() -> None:
    """After a broken pipe: discard what is still buffered, so that Python exits quietly."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout is not a file
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _replace_unencodable(stream: TextIO) -> None:
    # A terminal that claims to be ASCII gets '?' for a dash or an umlaut. The encoding stays as it
    # is, because UTF-8 would be garbage on a Latin-1 terminal.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
