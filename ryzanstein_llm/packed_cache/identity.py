"""Whether a checkpoint is the one whose weights were packed.

Its samples are compared first, because they are part of the key. If its files are the ones that
were packed (size, mtime, inode, ctime), that is enough. If they were copied, replaced or written to
since, every byte is compared once, and a note beside the packed file (`.seen`) keeps the result.
"""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

import numpy as np

from ..formats import Checkpoint
from ..formats.new_file import NewFile
from ..formats.safetensors_file import SafetensorsFile
from .ownership import open_own
from .place import SEEN

__all__ = ["is_known", "is_packed_checkpoint", "stamp_text"]

log = logging.getLogger(__name__)

MAX_NOTE_BYTES = 1 << 20


def stamp_text(checkpoint: Checkpoint) -> str:
    """The stamps of the weight files, as metadata have them."""
    return json.dumps([file.stamp for file in checkpoint.open_files])


def is_known(file: SafetensorsFile, checkpoint: Checkpoint) -> bool:
    """Whether the files of the checkpoint are those that were packed, or were compared with them
    before."""
    stamp = stamp_text(checkpoint)
    packed = file.metadata.get("checkpoint_stamp")
    return packed == stamp or _read(_note(file)) == _text(file, stamp)


def is_packed_checkpoint(file: SafetensorsFile, checkpoint: Checkpoint) -> bool:
    """Whether the weights of the checkpoint are those that were packed into the file. Reads all of
    them, unless `is_known`."""
    if is_known(file, checkpoint):
        return True
    log.info("%s: replaced or touched since it was packed; comparing all bytes", checkpoint.path)
    try:
        same = file.metadata.get("checkpoint_content") == checkpoint.content_digest()
    except OSError as error:
        log.warning("%s: packed weights not used: %s", checkpoint.path, error)
        return False
    if not same or not checkpoint.is_unchanged():
        log.info("%s: out of date: the checkpoint has other weights", file.path)
        return False
    with contextlib.suppress(OSError), NewFile(_note(file), mode=0o644, durable=False) as note:
        note.write(np.frombuffer(_text(file, stamp_text(checkpoint)).encode(), np.uint8))
    return True


def _note(file: SafetensorsFile) -> Path:
    return file.path.with_name(file.path.name + SEEN)


def _text(file: SafetensorsFile, stamp: str) -> str:
    return json.dumps([file.metadata.get("checkpoint_content"), stamp])


def _read(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8", opener=open_own) as note:
            return note.read(MAX_NOTE_BYTES)
    except (OSError, UnicodeDecodeError):
        return None
