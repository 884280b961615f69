"""Packed weights on disk, as tests use them: a small model that keeps them, and files taken apart
without the library's own reader."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from small_model import prompt

from ryzanstein_llm import BitNetModel

Header = dict[str, Any]


def logits(path: Path, cache: Path | bool, **options: Any) -> np.ndarray:
    """Of a prompt, from a model that is opened for it."""
    with BitNetModel(path, n_threads=1, packed_cache=cache, **options) as model:
        return model.forward(prompt(20))


def only_file(cache: Path) -> Path:
    """The one file of packed weights in a directory."""
    (found,) = cache.glob("*.packed.safetensors")
    return found


def read_parts(path: Path) -> tuple[Header, bytes]:
    """(header, data) of a `.safetensors` file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_parts(path: Path, header: Header, data: bytes, align: int = 64) -> None:
    """The file anew, its data at a multiple of `align`."""
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % align)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
