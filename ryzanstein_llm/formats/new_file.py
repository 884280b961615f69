"""A file that appears under its name only when it is complete: written beside it, then renamed.

A process that has the old file open or mapped keeps the old one. A writer that is killed leaves a
`.partial` file, which `remove_leftovers` deletes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import DiskSpaceError, ResourceLimitError, WriteError
from .unreadable import SHORTAGES

__all__ = [
    "NewFile",
    "partial_beside",
    "remove_leftovers",
    "replace_bytes",
    "replace_text",
    "unwritable",
    "writing",
]

PARTIAL = ".partial"

MOST_NAME_BYTES = 255
"""Of file names in the file systems of Linux."""

# The file is written in whole blocks at multiples of this. Then Linux keeps it in 2 MiB pieces of
# its page cache, and maps each piece with one translation. Smaller writes make small pieces.
BLOCK_BYTES = 2 << 20

# So much may wait to go to the disk. More often, and the disk works while the rest is computed.
UNSYNCED_BYTES = 256 << 20

SYNC_DATA = getattr(os, "fdatasync", os.fsync)  # not on macOS and Windows


class NewFile:
    """A context manager. The file appears at the end of the `with` block; an exception drops it,
    even if another thread is in `write`, which then fails.

    Parameters
    ----------
    path : Path
        An existing file is replaced.
    mode : int
        Permissions, less the umask.
    durable : bool
        Wait until the data are on the disk before the name appears, so that a power failure
        cannot leave a file of the right size with nothing in it.
    users_own : bool
        The file belongs to the user, who named it. A symbolic link then stays, and what it leads to
        is replaced; the new file has the owner and the permissions of the old one; and a device, a
        pipe, or a file that may not be written is refused, although its folder would permit to
        replace it.

    Raises
    ------
    WriteError
        From any method, if there is no such folder, the disk is full, and so on. It names `path`.
    ResourceLimitError
        The process has no more file descriptors, or the system is short of something else.
    """

    def __init__(
        self, path: Path, *, mode: int = 0o666, durable: bool = True, users_own: bool = False
    ) -> None:
        self.path, self._mode, self._durable, self._users_own = path, mode, durable, users_own
        self._target = self._partial = path  # until they are known
        self._descriptor = -1
        self._block = np.empty(BLOCK_BYTES, np.uint8)
        self._filled = 0
        self._unsynced = 0
        self._using = threading.Lock()  # the descriptor: closed, it may soon be another file's

    def __enter__(self) -> NewFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with writing(self.path):
            if self.path.is_dir():  # otherwise only found out at the end
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            old = _users_file(self.path) if self._users_own else None
            if self._users_own and self.path.is_symlink():
                self._target = Path(os.path.realpath(self.path))
            self._partial = partial_beside(self._target)
            mode = self._mode if old is None else self._mode & old.st_mode
            self._descriptor = os.open(self._partial, flags, mode)
            if old is not None:
                self._make_like(old)
        return self

    def _make_like(self, old: os.stat_result) -> None:
        with contextlib.suppress(OSError, AttributeError):  # not permitted, or on Windows
            os.chown(self._partial, old.st_uid, old.st_gid)
        with contextlib.suppress(OSError):  # the file system has no permissions
            self._partial.chmod(old.st_mode & 0o777)

    def status(self) -> os.stat_result:
        """Owner and permissions that the file system gave to the file."""
        return os.fstat(self._descriptor)

    def write(self, data: NDArray[np.uint8]) -> None:
        """Append bytes (a flat array)."""
        position = 0
        while position < data.size:
            if not self._filled and data.size - position >= BLOCK_BYTES:
                self._write_out(data[position : position + BLOCK_BYTES].data)
                position += BLOCK_BYTES
                continue
            count = min(data.size - position, BLOCK_BYTES - self._filled)
            self._block[self._filled : self._filled + count] = data[position : position + count]
            self._filled += count
            position += count
            if self._filled == BLOCK_BYTES:
                self._flush()

    def overwrite_start(self, data: bytes) -> None:
        """Replace the bytes at the beginning, after everything else is written."""
        self._flush()
        with writing(self.path):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._write_out(memoryview(data))

    def _flush(self) -> None:
        self._write_out(self._block[: self._filled].data)
        self._filled = 0

    def _write_out(self, data: memoryview) -> None:
        while data:  # a write may take only a part; the next one then raises the error
            with writing(self.path), self._using:
                count = os.write(self._descriptor, data)
                self._unsynced += count
                if self._durable and self._unsynced >= UNSYNCED_BYTES:
                    SYNC_DATA(self._descriptor)
                    self._unsynced = 0
            data = data[count:]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            try:
                if kind is None:
                    self._flush()
                    if self._durable:
                        with writing(self.path):
                            os.fsync(self._descriptor)
            finally:
                with writing(self.path), self._using:
                    os.close(self._descriptor)
                    self._descriptor = -1
            if kind is None:
                with writing(self.path):
                    os.replace(self._partial, self._target)
        finally:
            with contextlib.suppress(OSError):  # it is gone if it was renamed
                self._partial.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system within the block are about `path`, not about the file beside it."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError | ValueError) -> WriteError | ResourceLimitError:
    """The exception to raise when `path` cannot be written. `error` is of the system (a ValueError
    for a name that no file can have), or a WriteError about a file that the user does not know."""
    if isinstance(error, WriteError):
        return type(error)(str(path), error.problem, error.errno)
    if isinstance(error, ValueError):
        return WriteError(str(path), str(error))
    if error.errno in SHORTAGES:
        return ResourceLimitError(f"{path}: {SHORTAGES[error.errno]}")
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return WriteError(str(path), f"there is no folder {path.parent}", error.errno)
    kind = DiskSpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else WriteError
    return kind(str(path), error.strerror or str(error), error.errno)


def _users_file(path: Path) -> os.stat_result | None:
    """The file that is there; None if nothing is. Raises OSError if it may not be replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is a device or a pipe, not a file")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return found


def partial_beside(path: Path) -> Path:
    """A new name beside `path`, for what gets the name of `path` when it is complete."""
    end = f".{secrets.token_hex(4)}{PARTIAL}"
    name = path.name
    while len(os.fsencode(name)) > MOST_NAME_BYTES - len(end):
        name = name[:-1]
    return path.with_name(name + end)


def remove_leftovers(path: Path) -> None:
    """Delete what killed writers of `path` have left. No process may be writing it now."""
    name = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")
    with contextlib.suppress(OSError, ValueError):  # ValueError: no file can have this name
        for other in path.parent.iterdir():
            if path.name and name.fullmatch(other.name):
                with contextlib.suppress(OSError):
                    other.unlink()


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file that belongs to the user. A file of this name stays as it is until all is on the
    disk; see `users_own` of `NewFile`.

    Raises
    ------
    WriteError, ResourceLimitError
        If it cannot be written.
    """
    with NewFile(path, users_own=True) as file:
        file.write(np.frombuffer(data, np.uint8))


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` with a text, in UTF-8."""
    replace_bytes(path, text.encode("utf-8"))
