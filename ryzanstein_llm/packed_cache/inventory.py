"""What lies in a cache directory: for people who want to see it, check it, or have the space."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointNotFoundError, RyzansteinError
from ..formats import open_checkpoint
from ..formats.safetensors_file import SafetensorsFile
from .file import data_digest, key_of, open_trusted
from .lock import exclusive
from .place import SUFFIX, is_cache_name

__all__ = ["CachedFile", "clear", "inventory"]


@dataclass(frozen=True)
class CachedFile:
    """
    Attributes
    ----------
    path : Path
    nbytes : int
    checkpoint : str or None
        Whose packed weights these are; None where the file does not say.
    state : str
        `current`: the next start takes it. `stale`: the checkpoint, or this library, is another
        now. `orphaned`: the checkpoint is gone. `damaged`: it is not whole, not ours, or its bytes
        are not those that were written.
    why : str
        What is stale or damaged.
    """

    path: Path
    nbytes: int
    checkpoint: str | None
    state: str
    why: str = ""


def inventory(directory: Path, *, verify: bool = False) -> Iterator[CachedFile]:
    """The files of packed weights in a directory, by name; none if it is not there.

    Parameters
    ----------
    verify : bool
        Read every byte of each file and of its checkpoint, and compare digests with those that
        were taken when the file was written. Takes about a second a gigabyte.
    """
    for path in _files(directory):
        if not path.name.endswith(SUFFIX):
            continue
        nbytes = path.lstat().st_size
        try:
            file = open_trusted(path)
        except RyzansteinError as error:
            yield CachedFile(path, nbytes, None, "damaged", str(error))
            continue
        state, why = _state(file, verify)
        yield CachedFile(path, nbytes, file.metadata.get("checkpoint"), state, why)


def clear(directory: Path) -> tuple[int, int]:
    """Delete files of packed weights, and what belongs to them, but those that are being written.
    Processes that have one mapped keep it.

    Returns
    -------
    (files, bytes) that were deleted; locks and leftovers are not counted as files
    """
    count = freed = 0
    for path in list(_files(directory)):
        owner = path.name.partition(SUFFIX)[0] + SUFFIX
        lock = path.with_name(owner + ".lock")
        with contextlib.suppress(FileNotFoundError), exclusive(lock, 0) as held:
            if not held:
                continue
            freed += path.lstat().st_size
            count += path.name == owner
            path.unlink()
            lock.unlink(missing_ok=True)  # the one that is held: others make a new one
    return count, freed


def _files(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(directory)):
            if is_cache_name(name):
                yield directory / name


def _state(file: SafetensorsFile, verify: bool) -> tuple[str, str]:
    try:
        with open_checkpoint(file.metadata.get("checkpoint", "")) as checkpoint:
            for name, value in key_of(checkpoint).items():
                found = file.metadata.get(name)
                if found != value:
                    return "stale", f"{name} is {found!r}, now {value!r}"
            if verify and file.metadata.get("checkpoint_content") != checkpoint.content_digest():
                return "stale", "the checkpoint has other weights, though its files seem unchanged"
    except CheckpointNotFoundError as error:
        return "orphaned", str(error)
    except RyzansteinError as error:
        return "stale", str(error)
    if verify and file.metadata.get("data_digest") != data_digest(file):
        return "damaged", "its bytes are not those that were written"
    return "current", ""
