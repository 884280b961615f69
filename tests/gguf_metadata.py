"""The key-value pairs of a GGUF file, read as ggml's docs/gguf.md says and in no other way."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

__all__ = ["read_gguf_metadata"]

# type id -> struct character
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9


def read_gguf_metadata(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    position = 0

    def take(format: str) -> Any:
        nonlocal position
        values = struct.unpack_from("<" + format, data, position)
        position += struct.calcsize("<" + format)
        return values

    def string() -> str:
        nonlocal position
        (length,) = take("Q")
        position += length
        return data[position - length : position].decode()

    def value(kind: int) -> Any:
        if kind == STRING:
            return string()
        if kind == ARRAY:
            inner, count = take("IQ")
            return (
                [string() for _ in range(count)]
                if inner == STRING
                else list(take(f"{count}{NUMBERS[inner]}"))
            )
        return take(NUMBERS[kind])[0]

    magic, version, _tensors, pairs = take("4sIQQ")
    assert magic == b"GGUF"
    assert version in (2, 3)
    return {string(): value(take("I")[0]) for _ in range(pairs)}
