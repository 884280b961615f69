"""Checksums of arrays in a file of packed weights: one for each piece of 64 KiB, so that a few
pieces can be checked without reading the rest."""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["checksums", "is_damaged", "read_checksums", "without_value"]

PIECE = 64 << 10
SPARSE = 16 << 20  # one piece is checked for so many bytes
DIGITS = 8


def checksums(array: NDArray[Any]) -> str:
    """CRC-32 of each piece of an array, eight hexadecimal digits each."""
    data = _bytes(array)
    return "".join(
        f"{zlib.crc32(data[begin : begin + PIECE]):08x}" for begin in range(0, data.nbytes, PIECE)
    )


def without_value(nbytes: int) -> str:
    """A text as long as the checksums of so many bytes."""
    return "0" * (DIGITS * -(-nbytes // PIECE))


def read_checksums(metadata: Mapping[str, str]) -> dict[str, str]:
    """Checksums by the names of arrays; {} if the metadata of a file have none that can be read."""
    try:
        found = json.loads(metadata.get("checksums", ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def is_damaged(array: NDArray[Any], expected: object, *, whole: bool) -> bool:
    """Whether the checksum of a piece is not the expected one.

    Parameters
    ----------
    whole : bool
        Check every piece. Otherwise some, which are others each time, so that damage that one start
        does not see is seen by a later one.
    """
    data = _bytes(array)
    count = -(-data.nbytes // PIECE)
    if not isinstance(expected, str) or len(expected) != DIGITS * count:
        return True
    some = 1 + data.nbytes // SPARSE
    pieces = range(count) if whole or count <= some else {_below(count) for _ in range(some)}
    return any(
        f"{zlib.crc32(data[PIECE * piece : PIECE * (piece + 1)]):08x}"
        != expected[DIGITS * piece : DIGITS * (piece + 1)]
        for piece in pieces
    )


_below = secrets.randbelow


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
