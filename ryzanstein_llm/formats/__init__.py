"""Checkpoints on disk. This package knows files and tensors, and no models.

`open_checkpoint` checks everything that can be wrong with the files themselves, so its result holds
what the headers say. `models` checks whether that fits a model.
"""

from __future__ import annotations

import os

from .checkpoint import Checkpoint, Tensor
from .embedding_settings import EmbeddingSettings
from .locate import locate
from .mapped_file import FileStamp, TensorInfo

__all__ = [
    "Checkpoint",
    "EmbeddingSettings",
    "FileStamp",
    "Tensor",
    "TensorInfo",
    "open_checkpoint",
]


def open_checkpoint(path: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Open a checkpoint for reading. No tensor data are read yet.

    Parameters
    ----------
    path
        A `.safetensors` file with `config.json` (and `tokenizer.json`) beside it; a directory
        with `model.safetensors`, or with `model.safetensors.index.json` and its shards, or with
        one file `*.safetensors`; the index file; a GGUF file, or a directory with one; or None for
        the built-in demo model.

    Raises
    ------
    CheckpointNotFoundError
        The path, a shard or `config.json` does not exist or cannot be read.
    FormatError
        A file is truncated, malformed, or contradicts another; the message names the file and
        the value.
    """
    return Checkpoint(locate(path))
