"""The files in a cache directory, to list, check and delete."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CheckpointNotFoundError, RyzansteinError
from ..formats import open_checkpoint
from ..formats.safetensors_file import SafetensorsFile
from .file import is_whole, open_trusted, why_stale
from .identity import is_known
from .lock import exclusive
from .place import LOCK, SEEN, SUFFIX, is_cache_name

__all__ = ["CachedFile", "clear", "inventory"]


@dataclass(frozen=True)
class CachedFile:
    """
    Attributes
    ----------
    path : Path
    nbytes : int
    checkpoint : str or None
        The checkpoint of these packed weights; None if the file does not say.
    state : str
        `current`: the next start uses it. `stale`: the checkpoint or the library has changed.
        `orphaned`: the checkpoint is gone. `damaged`: it is incomplete, another user could have
        written it, or its bytes have changed. `unfinished`: a process is writing it, or died while
        writing.
    why : str
        What is stale, damaged or missing, for people; empty if there is nothing to say.
    """

    path: Path
    nbytes: int
    checkpoint: str | None
    state: str
    why: str = ""

    @property
    def whose(self) -> str:
        """The checkpoint, or the name of the file if the checkpoint is not known."""
        return self.checkpoint or self.path.name

    def is_called(self, name: str) -> bool:
        """Whether `name` is the path of the checkpoint or of the file, or the name of the file. It
        may be a relative path, or a pattern as in a shell, except that `*` also matches slashes."""
        if not name:  # such as an unset variable; its absolute path would be this directory
            return False
        own = [str(self.path), self.path.name, self.whose]
        asked = (name, os.path.abspath(name))
        return any(
            mine == wanted or fnmatch.fnmatchcase(mine, wanted) for mine in own for wanted in asked
        )


def inventory(
    directory: Path, names: Collection[str] = (), *, verify: bool = False
) -> Iterator[CachedFile]:
    """The files of packed weights in a directory, sorted by name. None if the directory does not
    exist.

    Parameters
    ----------
    names : collection of str
        Only files with one of these names (see `CachedFile.is_called`). Empty: all files.
    verify : bool
        Read every byte of each file and of its checkpoint, and compare checksums and digest with
        those in the file. Takes about a second for each gigabyte.
    """
    chosen = set()
    for path in _files(directory):
        if path.name.endswith((LOCK, SEEN)):
            continue
        try:
            nbytes = path.lstat().st_size
        except FileNotFoundError:  # another process has deleted it
            continue
        owner, file = _owner(path), None
        why = "a process is writing it, or has ended before it was complete"
        found = CachedFile(path, nbytes, None, "unfinished", why)
        if path == owner:
            try:
                file = open_trusted(path)
                found = replace(found, checkpoint=file.metadata.get("checkpoint"))
            except RyzansteinError as error:
                found = replace(found, state="damaged", why=str(error))
        # an unfinished file sorts after the file it would replace, and is chosen with it
        if names and owner not in chosen and not any(map(found.is_called, names)):
            continue
        chosen.add(owner)
        if file is not None:
            state, why = _state(file, verify)
            found = replace(found, state=state, why=why)
        yield found


def clear(
    directory: Path, files: Iterable[CachedFile]
) -> tuple[list[CachedFile], list[CachedFile]]:
    """Delete files of a directory, and locks without a file. Files that are being written are kept.
    Processes that have a file mapped keep it.

    Returns
    -------
    (files that were deleted, files that are being written)
    """
    deleted: list[CachedFile] = []
    kept: list[CachedFile] = []
    for file in files:
        (deleted if _delete(file.path) else kept).append(file)
    for path in list(_files(directory)):
        if path.name.endswith((LOCK, SEEN)) and not _owner(path).exists():
            _delete(path)
    return deleted, kept


def _delete(path: Path) -> bool:
    """Delete a file of the cache and its lock, unless another process holds the lock."""
    lock = path.with_name(_owner(path).name + LOCK)
    with exclusive(lock, 0) as held:
        if held:
            path.unlink(missing_ok=True)
            path.with_name(path.name + SEEN).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)  # while it is held; other processes make a new one
        return held


def _owner(path: Path) -> Path:
    """The file of packed weights that a lock or an unfinished file belongs to."""
    return path.with_name(path.name.partition(SUFFIX)[0] + SUFFIX)


def _files(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(directory)):
            if is_cache_name(name):
                yield directory / name


def _state(file: SafetensorsFile, verify: bool) -> tuple[str, str]:
    try:
        with open_checkpoint(file.metadata.get("checkpoint", "")) as checkpoint:
            if why := why_stale(file.metadata, checkpoint):
                return "stale", why
            known = verify or is_known(file, checkpoint)
            why = "" if known else "the checkpoint was touched: the next start compares all bytes"
            if verify and file.metadata.get("checkpoint_content") != checkpoint.content_digest():
                return "stale", "the checkpoint has other weights"
    except CheckpointNotFoundError as error:
        there = os.path.lexists(file.metadata.get("checkpoint", ""))
        return "orphaned", str(error) if there else "the checkpoint is no longer there"
    except RyzansteinError as error:
        return "stale", str(error)
    if verify and not is_whole(file):
        return "damaged", "its bytes are not those that were written"
    return "current", why
