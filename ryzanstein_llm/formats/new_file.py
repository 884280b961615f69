"""A file that appears under its name only when it is complete: written beside it, then renamed.

A process that has the old file open or mapped keeps the old one. A writer that is killed leaves a
`.partial` file, which `remove_leftovers` deletes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARTIAL", "NewFile", "remove_leftovers", "replace_text"]

PARTIAL = ".partial"

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

    Raises
    ------
    OSError
        From any method, if the disk is full, the directory is read-only, and so on.
    """

    def __init__(self, path: Path, *, mode: int = 0o666, durable: bool = True) -> None:
        self.path, self._mode, self._durable = path, mode, durable
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        self._descriptor = -1
        self._block = np.empty(BLOCK_BYTES, np.uint8)
        self._filled = 0
        self._unsynced = 0
        self._using = threading.Lock()  # the descriptor: closed, it may soon be another file's

    def __enter__(self) -> NewFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._partial, flags, self._mode)
        return self

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
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._write_out(memoryview(data))

    def _flush(self) -> None:
        self._write_out(self._block[: self._filled].data)
        self._filled = 0

    def _write_out(self, data: memoryview) -> None:
        while data:  # a write may take only a part; the next one then raises the error
            with self._using:
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
                        os.fsync(self._descriptor)
            finally:
                with self._using:
                    os.close(self._descriptor)
                    self._descriptor = -1
            if kind is None:
                os.replace(self._partial, self.path)
        finally:
            with contextlib.suppress(OSError):  # it is gone if it was renamed
                self._partial.unlink()


def remove_leftovers(path: Path) -> None:
    """Delete what killed writers of `path` have left. No process may be writing it now."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.startswith(path.name + ".") and other.name.endswith(PARTIAL):
                with contextlib.suppress(OSError):
                    other.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8. A file of this name stays as it is until all is on the disk, and
    then the new one has its permissions.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    data = np.frombuffer(text.encode("utf-8"), np.uint8)
    mode = 0o666
    with contextlib.suppress(OSError):  # there is none yet
        mode &= path.stat().st_mode
    try:
        with NewFile(path, mode=mode) as file:
            file.write(data)
    except OSError as error:  # its file is the one beside, which nobody knows
        raise OSError(error.errno, error.strerror, str(path)) from error
