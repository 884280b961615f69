"""GGUF files written by hand, so that any byte of them can be made wrong. (ggml, docs/gguf.md)"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Stored", "encode_array", "encode_gguf", "encode_text", "f32", "qwen3_metadata"]

NUMBERS = {"u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7}
NUMBERS |= {"u8": 10, "i8": 11, "f8": 12}


@dataclass(frozen=True)
class Stored:
    """A tensor. `shape` is (rows, columns). An offset of None is the right one, `sizes` of None are
    those of the shape."""

    name: str
    type_id: int
    shape: tuple[int, ...]
    data: bytes
    offset: int | None = None
    sizes: Sequence[int] | None = None


def f32(name: str, *values: float) -> Stored:
    return Stored(name, 0, (len(values),), struct.pack(f"<{len(values)}f", *values))


def encode_text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode_array(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        kind = NUMBERS[value.dtype.str[1:]]
        return struct.pack("<IQ", kind, len(value)) + value.tobytes()
    return struct.pack("<IQ", 8, len(value)) + b"".join(map(encode_text, value))


def encode_value(value: Any) -> bytes:
    """A type id and a value. `bytes` are taken as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.generic):
        return struct.pack("<I", NUMBERS[value.dtype.str[1:]]) + value.tobytes()
    if isinstance(value, str):
        return struct.pack("<I", 8) + encode_text(value)
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 9) + encode_array(value)


def encode_gguf(
    metadata: Mapping[str, Any] | Sequence[tuple[str | bytes, Any]] = (),
    tensors: Sequence[Stored] = (),
    *,
    version: int = 3,
    alignment: int = 32,
    n_tensors: int | None = None,
    n_pairs: int | None = None,
) -> bytes:
    """The bytes of a file. The counts override the right ones."""
    pairs = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    header = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    for key, value in pairs:
        header += encode_text(key) + encode_value(value)
    data = b""
    for tensor in tensors:
        sizes = tensor.shape[::-1] if tensor.sizes is None else tensor.sizes
        offset = len(data) if tensor.offset is None else tensor.offset
        header += encode_text(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        header += struct.pack("<IQ", tensor.type_id, offset)
        data += tensor.data + bytes(-len(tensor.data) % alignment)
    return header + bytes(-len(header) % alignment) + data


def qwen3_metadata(**changes: Any) -> dict[str, Any]:
    """Keys of a small Qwen3; `changes` replace those without their prefix, None removes one."""
    keys = {
        "block_count": 2,
        "context_length": 512,
        "embedding_length": 256,
        "feed_forward_length": 768,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1e6,
    }
    keys.update(changes)
    own = {f"qwen3.{key}": value for key, value in keys.items() if value is not None}
    return {"general.architecture": "qwen3", **own}
