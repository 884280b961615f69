"""A file that appears under its name only when it is complete: written beside it, then renamed.

Whoever has the old file open or mapped keeps the old one. A writer that is killed leaves a
`.partial` file, which the next writer of the same name removes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARTIAL", "NewFile", "remove_leftovers"]

PARTIAL = ".partial"

# Written in whole blocks at multiples of this, so that Linux keeps the file in 2 MiB pieces of
# its page cache, which it can map with one translation each. Smaller writes make small pieces.
BLOCK_BYTES = 2 << 20


class NewFile:
    """A context manager: leaving it normally publishes the file, by an exception drops it.

    Parameters
    ----------
    path : Path
        Replaced if it is there.
    mode : int
        Permissions, less the umask.
    durable : bool
        Wait until the data are on the disk before the name appears, so that a power failure
        cannot leave a file of the right size with nothing in it.

    Raises
    ------
    OSError
        From any method, when the disk is full, the directory is read-only, and so on.
    """

    def __init__(self, path: Path, *, mode: int = 0o666, durable: bool = True) -> None:
        self.path, self._mode, self._durable = path, mode, durable
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        self._descriptor = -1
        self._block = np.empty(BLOCK_BYTES, np.uint8)
        self._filled = 0

    def __enter__(self) -> NewFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._partial, flags, self._mode)
        return self

    def status(self) -> os.stat_result:
        """What the file system made of it: owner, permissions."""
        return os.fstat(self._descriptor)

    def write(self, data: NDArray[np.uint8]) -> None:
        """Append bytes (a flat array)."""
        position = 0
        while position < data.size:
            count = min(data.size - position, BLOCK_BYTES - self._filled)
            self._block[self._filled : self._filled + count] = data[position : position + count]
            self._filled += count
            position += count
            if self._filled == BLOCK_BYTES:
                self._flush()

    def overwrite_start(self, data: bytes) -> None:
        """Put other bytes at the beginning, once everything is written."""
        self._flush()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._write_out(memoryview(data))

    def _flush(self) -> None:
        self._write_out(self._block[: self._filled].data)
        self._filled = 0

    def _write_out(self, data: memoryview) -> None:
        while data:  # a write may take a part only, and the next one then says why
            data = data[os.write(self._descriptor, data) :]

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
                os.close(self._descriptor)
            if kind is None:
                os.replace(self._partial, self.path)
        finally:
            with contextlib.suppress(OSError):  # after the renaming it is gone
                self._partial.unlink()


def remove_leftovers(path: Path) -> None:
    """Delete what killed writers of `path` have left. Nobody may be writing it now."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.startswith(path.name + ".") and other.name.endswith(PARTIAL):
                with contextlib.suppress(OSError):
                    other.unlink()
