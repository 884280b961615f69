"""What readers of tensor files have in common: what they tell about a tensor, and a mapped file."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ClosedError, FormatError

__all__ = ["FileStamp", "MappedFile", "Sample", "TensorFile", "TensorInfo"]

Sample = tuple[str, bytes]

MADV_POPULATE_READ = 22  # since Linux 5.14; Python's mmap has no name for it


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about one tensor. `nbytes` is its size in the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    nbytes: int


class FileStamp(NamedTuple):
    """What changes when a file is replaced or written to. A copy has another inode, and ctime,
    unlike mtime, cannot be set to what it was."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """From the result of `os.stat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


class TensorFile(Protocol):
    """A reader, as `Checkpoint` uses it. All data of a tensor are read through the mapping."""

    path: Path
    stamp: FileStamp

    @property
    def header(self) -> bytes:
        """Everything before the tensor data, for a digest."""
        ...

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """By name, in the order of the data."""
        ...

    def array(self, name: str) -> NDArray[Any]: ...
    def samples(self, count: int, size: int) -> Iterator[Sample]: ...
    def watch(self) -> Any: ...  # Watch, which knows this module
    def release(self, name: str) -> None: ...
    def close(self) -> None: ...


class MappedFile:
    """The bytes of an open file, mapped read-only.

    Parameters
    ----------
    path
        For messages.
    descriptor
        Of a file that is not empty. It may be closed afterwards.
    size
        Bytes of the file.

    Raises
    ------
    FormatError
        The file has fewer bytes.
    OSError
        It cannot be mapped.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        try:
            self._map: mmap.mmap | None = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise FormatError(f"{path}: it shrank while it was opened: {error}") from error

    def bytes(self) -> mmap.mmap:
        """The mapping itself, to be read by index and slice. Raises `ClosedError` after
        `close()`."""
        if self._map is None:
            raise ClosedError(f"{self._path}: the checkpoint was closed")
        return self._map

    def array(
        self, name: str, begin: int, end: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """The bytes `begin` to `end` of the file as a read-only array of the tensor `name`.

        It is a view, which keeps the mapping alive. It is a copy only if the address in the file is
        not a multiple of the element size.

        Raises
        ------
        ClosedError
            After `close()`.
        FormatError
            The shape has sizes beyond NumPy's.
        """
        try:
            # A memoryview keeps the mapping alive. np.ndarray(buffer=mmap) does not, and reading
            # such an array after mmap.close() crashes the process.
            flat = np.frombuffer(memoryview(self.bytes())[begin:end], np.uint8)
            view: NDArray[Any] = flat.view(dtype).reshape(shape)
        except ValueError as error:  # possible when one of the sizes is 0
            raise FormatError(f"{self._path}: tensor {name!r}: shape {shape}: {error}") from error
        if not view.flags.aligned:
            view = view.copy()
            view.flags.writeable = False
        return view

    def samples(
        self, spans: Mapping[str, tuple[int, int]], count: int, size: int
    ) -> Iterator[Sample]:
        """For each span (begin, end) its name and `count` pieces of `size` bytes, joined, evenly
        spaced from its beginning to its end. Neighbouring pages are not read, and none stays
        mapped."""
        data = self.bytes()
        self._advise(getattr(mmap, "MADV_RANDOM", None))
        try:
            for name, (begin, end) in spans.items():
                last = max(0, end - begin - size)
                starts = [begin + last * index // (count - 1) for index in range(count)]
                yield name, b"".join(data[start : min(end, start + size)] for start in starts)
        finally:
            self._advise(getattr(mmap, "MADV_NORMAL", None))
            self.release(0, len(data))

    def prefer_huge_pages(self) -> None:
        """Ask for pages of 2 MiB for everything that is read from now on (best effort)."""
        if sys.platform == "linux":
            self._advise(mmap.MADV_HUGEPAGE)

    def prefault(self) -> None:
        """Read and map the whole file, so that nothing has to wait for it later (best effort)."""
        if sys.platform == "linux":
            # Not MADV_WILLNEED, which reads ahead in small pieces that cannot be mapped as one.
            self._advise(MADV_POPULATE_READ)

    def _advise(self, advice: int | None) -> None:
        if self._map is not None and advice is not None:
            with contextlib.suppress(OSError):  # an older kernel
                self._map.madvise(advice)

    def release(self, begin: int, end: int) -> None:
        """Let the operating system drop the whole pages between two offsets (best effort).

        Views stay valid; their pages are read from the file again.
        """
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        end = end // mmap.PAGESIZE * mmap.PAGESIZE
        if begin < end:
            with contextlib.suppress(OSError):  # advice only
                self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def close(self) -> None:
        """Release the mapping. It goes away with the last array that views it."""
        self._map = None
