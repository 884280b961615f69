"""Standard output and error as a command needs them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["abandon_stdout", "console", "write"]


@contextlib.contextmanager
def console(program: str, verbose: int) -> Iterator[None]:
    """While a command runs: show log messages, and never fail on a character.

    Parameters
    ----------
    verbose : int
        0 shows the library's warnings, 1 its information, 2 and more its debugging.
    """
    for stream in (sys.stdout, sys.stderr):
        _replace_unencodable(stream)
    log = logging.getLogger("ryzanstein_llm")
    level = log.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{program}: %(levelname)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def write(text: str) -> None:
    """Put text on standard output now, not when a buffer is full."""
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def abandon_stdout() -> None:
    """After a broken pipe: let what is still buffered go nowhere, so that exiting stays quiet."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: no file behind it
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _replace_unencodable(stream: TextIO) -> None:
    # A terminal said to be ASCII gets '?' for a dash or an umlaut. Its encoding is kept:
    # UTF-8 sent to a Latin-1 terminal would be garbage.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
