"""Digests of parts, and samples of tensors that stand for them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mapped_file import TensorInfo

__all__ = ["digest_of", "digest_of_files", "sample"]

SAMPLES, SAMPLE_BYTES = 8, 64  # of a tensor, evenly spaced from its beginning to its end


def digest_of(*parts: bytes) -> str:
    """A digest of the parts and of where they end, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def digest_of_files(paths: Sequence[Path]) -> str:
    """A digest of every byte of some files and of where they end, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as file:
            digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sample(name: str, info: TensorInfo, array: NDArray[Any]) -> bytes:
    """Name, type, shape and some of the bytes of a tensor."""
    data = array.reshape(-1).view(np.uint8)
    last = max(0, data.size - SAMPLE_BYTES)
    starts = [last * index // (SAMPLES - 1) for index in range(SAMPLES)]
    parts = [data[start : start + SAMPLE_BYTES].tobytes() for start in starts]
    return b"".join([json.dumps([name, info.dtype, info.shape]).encode("ascii"), *parts])
