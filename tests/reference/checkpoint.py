"""Checkpoints on disk: `config.json` and safetensors files, read and written by definition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[Any]

_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I8": "i1"}
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "uint8": "U8", "int8": "I8"}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file; bfloat16 comes widened to float32, which is exact."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        stored = np.frombuffer(data[8 + length + begin : 8 + length + end], _STORED[entry["dtype"]])
        if entry["dtype"] == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = stored.reshape(entry["shape"])
    return tensors


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], bfloat16: frozenset[str] | set[str] = frozenset()
) -> None:
    """Write a file; the float tensors named in `bfloat16` are rounded to it, half to even."""
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for name, tensor in tensors.items():
        if name in bfloat16:
            dtype, chunk = "BF16", to_bfloat16(tensor).tobytes()
        else:
            dtype, chunk = _NAMES[tensor.dtype.name], np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))


def to_bfloat16(values: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """The upper halves of finite float32 values, rounded half to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def read_checkpoint(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`config.json` and the tensors of every safetensors file of a directory."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors.update(read_safetensors(path))
    return config, tensors
