"""Writes `.gguf` files (version 3) one tensor at a time, so that a file may be larger than memory.

For the layout of a file see gguf_file.py and gguf_metadata.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gguf_metadata import ARRAY, BOOL, NUMBERS, STRING
from .gguf_types import type_named
from .new_file import NewFile

__all__ = ["ALIGNMENT", "GgufTensor", "encode_gguf_header", "write_gguf"]

VERSION = 3
ALIGNMENT = 32

U32, I32, U64, F32 = 4, 5, 10, 6


@dataclass(frozen=True)
class GgufTensor:
    """A tensor to be written.

    Attributes
    ----------
    name : str
    dtype : str
        The name of a type of `gguf_types` whose size follows from the shape, such as "F32" or
        "TQ2_0".
    shape : tuple of int
        (rows, columns) or (size,).
    blocks : callable
        Yields the data in order, as arrays of any shape and dtype, with `nbytes` bytes in all.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    @property
    def nbytes(self) -> int:
        """Size in the file, in bytes, without padding. Raises ValueError if rows are not whole
        blocks of the type."""
        size = type_named(self.dtype)[1].size(self.shape)
        if size is None:
            raise ValueError(f"{self.name}: {self.shape} is not a whole number of {self.dtype}")
        return size


def encode_gguf_header(metadata: Mapping[str, Any], tensors: Sequence[GgufTensor]) -> bytes:
    """Everything before the tensor data, padded.

    Parameters
    ----------
    metadata : mapping
        Values are str, bool, int (as u32, i32 or u64, the first that holds it), NumPy integers (as
        i32), float (as f32), lists of str, or arrays of one dimension of any type of number.
    """
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _value(key, value)]
    offset = 0
    for tensor in tensors:
        sizes = tensor.shape[::-1]
        type_id, _ = type_named(tensor.dtype)
        parts.append(_string(tensor.name))
        parts.append(struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, type_id, offset))
        offset += _padded(tensor.nbytes)
    header = b"".join(parts)
    return header + bytes(-len(header) % ALIGNMENT)


def write_gguf(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Sequence[GgufTensor],
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Write a file, which appears under its name when it is complete.

    Parameters
    ----------
    progress : callable (tensors done, tensors in all), optional

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    WriteError
        The file cannot be written.
    ValueError
        A tensor yields another number of bytes than its shape takes.
    """
    header = encode_gguf_header(metadata, tensors)
    with NewFile(path) as file:
        file.write(np.frombuffer(header, np.uint8))
        for done, tensor in enumerate(tensors, 1):
            count = 0
            for block in tensor.blocks():
                file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8))
                count += block.nbytes
            if count != tensor.nbytes:
                raise ValueError(f"{tensor.name}: {count} bytes, not {tensor.nbytes}")
            file.write(np.zeros(_padded(count) - count, np.uint8))
            if progress is not None:
                progress(done, len(tensors))
    return len(header) + sum(_padded(tensor.nbytes) for tensor in tensors)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case str():
            return struct.pack("<I", STRING) + _string(value)
        case np.signedinteger():
            return struct.pack("<Ii", I32, value)
        case int():
            kind, code = (I32, "i") if value < 0 else (U32, "I") if value < 1 << 32 else (U64, "Q")
            return struct.pack(f"<I{code}", kind, value)
        case float():
            return struct.pack("<If", F32, value)
        case np.ndarray():
            little = value.astype(value.dtype.newbyteorder("<"))
            kind = next(number for number, dtype in NUMBERS.items() if dtype == little.dtype)
            return struct.pack("<IIQ", ARRAY, kind, value.size) + little.tobytes()
        case list() if all(isinstance(item, str) for item in value):
            start = struct.pack("<IIQ", ARRAY, STRING, len(value))
            return start + b"".join(_string(item) for item in value)
    raise TypeError(f"{key}: a {type(value).__name__} cannot be written")
