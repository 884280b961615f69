"""What a fuzz target is, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TARGETS", "Ready", "kept", "target"]

KEPT = Path(__file__).parent / "kept"


@dataclass(frozen=True)
class Ready:
    """A target that can run.

    Attributes
    ----------
    read : callable
        Gives the bytes to the reader, and what was read to its users.
    seeds : sequence of bytes
        Inputs that the reader accepts, or nearly.
    words : sequence of bytes
        Pieces that mutations put in.
    """

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()


TARGETS: dict[str, Callable[[Path], Ready]] = {}
"""By name, a function that prepares the target in an empty folder."""


def kept(name: str) -> dict[str, bytes]:
    """Inputs by which a target has found something that is mended now, by what it was. A new one is
    made as small as it can be and put into the folder of its target."""
    return {path.name: path.read_bytes() for path in sorted((KEPT / name).glob("*"))}


def target(prepare: Callable[[Path], Ready]) -> Callable[[Path], Ready]:
    """Put a function into the table under its own name."""
    TARGETS[prepare.__name__] = prepare
    return prepare
