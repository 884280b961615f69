"""Digests of parts and of files, and how much of a tensor stands for all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SAMPLES", "SAMPLE_BYTES", "digest_of", "digest_of_files"]

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
    block = memoryview(bytearray(1 << 20))
    for path in paths:
        with path.open("rb", buffering=0) as file:
            digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while count := file.readinto(block):
                digest.update(block[:count])
    return digest.hexdigest()
