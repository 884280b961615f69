"""One `.safetensors` file: its header, which is checked in full, and its bytes, which are mapped.

    u64 little-endian header length N | N bytes of JSON | tensor data

The header gives each tensor `{dtype, shape, data_offsets: [begin, end)}`, with offsets counted
from the end of the header. The reader of the safetensors library copies every tensor that it
returns. This one reads the offsets, so that a tensor can be a view of the file.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import safe_open

from ..errors import FormatError, RyzansteinError
from .dtypes import BITS, CARRIERS
from .json_file import parse_json_object
from .mapped_file import FileStamp, MappedFile, Sample, TensorInfo
from .other_formats import name_other_format
from .unreadable import unreadable
from .watch import Watch

__all__ = ["SafetensorsFile"]

# The limit of the safetensors library. A larger length means a file of another format.
MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 32


class SafetensorsFile:
    """A checked, memory-mapped `.safetensors` file.

    The mapping is read-only and shared with every process that opens the file. The file must not
    be truncated while it is open, because a read beyond its end kills the process (SIGBUS).

    Attributes
    ----------
    path : Path
    header : bytes
        The JSON header, as it is in the file.
    size : int
        In bytes.
    stamp : FileStamp
        When the file was opened.
    infos : Mapping[str, TensorInfo]
        By name, in the order of the data.
    metadata : dict[str, str]
        The `__metadata__` of the header.
    """

    def __init__(
        self, path: Path, *, opener: Callable[[str, int], int] | None = None, confirm: bool = True
    ) -> None:
        """
        Parameters
        ----------
        opener
            As for `open`: takes path and flags and returns a descriptor, or raises OSError for a
            file that must not be read.
        confirm
            Whether the safetensors library has to accept the file too. It opens the path again.

        Raises
        ------
        CheckpointNotFoundError
            The file does not exist or cannot be read.
        ResourceLimitError
            There are no more file descriptors, or too little memory.
        FormatError
            A length, the header, an offset or a size is not what the format says.
        """
        self.path = path
        try:
            with open(path, "rb", opener=opener) as file:
                status = os.fstat(file.fileno())
                self.size = status.st_size
                self.stamp = FileStamp.of(status)
                self.header = self._read_header(file.read(8), file.read)
                self._data_begin = 8 + len(self.header)
                self._map = MappedFile(path, file.fileno(), self.size)
        except RyzansteinError:  # some of them are ValueErrors
            raise
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        try:
            self._offsets, self.infos = self._read_entries()
            if confirm:
                self._confirm()
        except BaseException:
            self.close()
            raise

    def _read_header(self, prefix: bytes, read: Any) -> bytes:
        if len(prefix) < 8:
            raise FormatError(
                f"{self.path}: truncated: {len(prefix)} bytes, a safetensors file has at least 8"
            )
        (length,) = struct.unpack("<Q", prefix)
        if length > min(MAX_HEADER_BYTES, self.size - 8):
            start = prefix + read(8)
            kind = name_other_format(start)
            if kind is not None:
                raise FormatError(f"{self.path}: not a safetensors file but {kind}")
            if length <= MAX_HEADER_BYTES:
                raise FormatError(
                    f"{self.path}: truncated: the header is {length} bytes long, "
                    f"the file holds {self.size - 8} after its length field"
                )
            raise FormatError(
                f"{self.path}: not a safetensors file: header length {length} "
                f"is beyond the limit of {MAX_HEADER_BYTES}"
            )
        header: bytes = read(length)
        if len(header) != length:  # the file has shrunk since its size was read
            raise FormatError(f"{self.path}: truncated: header of {len(header)}/{length} bytes")
        if not header.startswith(b"{"):
            raise FormatError(
                f"{self.path}: header must start with '{{', found {header[:16]!r} (length {length})"
            )
        return header

    def _read_entries(self) -> tuple[dict[str, tuple[int, int]], Mapping[str, TensorInfo]]:
        """Offsets within the file, and infos, both by name in the order of the data."""
        entries = parse_json_object(self.header, self.path, what="header", unique=True)
        self.metadata = _strings(entries.pop("__metadata__", None))
        found = [self._read_entry(name, entry) for name, entry in entries.items()]
        found.sort(key=lambda item: (item[0], item[1]))
        # Tensors must lie end to end. A gap could hide data, and with overlaps a small file could
        # claim far more data than it has.
        position, before = 0, "the header"
        for begin, end, info in found:
            if begin != position:
                fault = "overlaps" if begin < position else "leaves a gap after"
                raise FormatError(
                    f"{self.path}: tensor {info.name!r}: data_offsets [{begin}, {end}] "
                    f"{fault} {before}, which ends at {position}"
                )
            position, before = end, f"tensor {info.name!r}"
        available = self.size - self._data_begin
        if position != available:
            raise FormatError(
                f"{self.path}: {available} bytes of tensor data, "
                f"but the header describes {position}"
            )
        base = self._data_begin
        offsets = {info.name: (base + begin, base + end) for begin, end, info in found}
        return offsets, {info.name: info for _, _, info in found}

    def _read_entry(self, name: str, entry: Any) -> tuple[int, int, TensorInfo]:
        def fail(text: str) -> FormatError:
            return FormatError(f"{self.path}: tensor {name!r}: {text}")

        if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
            raise fail(f"expected dtype, shape and data_offsets, found {_short(entry)}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BITS:
            raise fail(f"unknown dtype {_short(dtype)}")
        if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
            raise fail(f"shape {_short(shape)} is not a list of sizes")
        if not _is_sizes(offsets) or len(offsets) != 2:
            raise fail(f"data_offsets {_short(offsets)} are not two byte offsets")
        begin, end = offsets
        available = self.size - self._data_begin
        if begin > end:
            raise fail(f"data_offsets [{begin}, {end}] end before they begin")
        if end > available:
            raise fail(
                f"data_offsets [{begin}, {end}] reach outside the file, which holds {available} "
                "bytes of tensor data (truncated?)"
            )
        bits = math.prod(shape) * BITS[dtype]
        if bits != 8 * (end - begin):
            raise fail(
                f"{dtype} of shape {tuple(shape)} takes {-(-bits // 8)} bytes, "
                f"data_offsets [{begin}, {end}] hold {end - begin}"
            )
        return begin, end, TensorInfo(name, dtype, tuple(shape), self.path, end - begin)

    def _confirm(self) -> None:
        """Check with the safetensors library, so that nothing is read that other readers refuse."""
        try:
            with safe_open(self.path, framework="numpy") as other:
                names = set(other.keys())
        except MemoryError:
            raise
        except Exception as error:  # its errors share no base class but Exception
            try:
                open(self.path, "rb").close()  # it calls all that FileNotFoundError, without errno
            except OSError as reason:
                raise unreadable(self.path, reason) from reason
            raise FormatError(f"{self.path}: refused by safetensors: {error}") from error
        if names != set(self.infos):
            raise FormatError(
                f"{self.path}: safetensors finds other tensors: {_short(names ^ set(self.infos))}"
            )

    def array(self, name: str) -> NDArray[Any]:
        """The tensor `name` (which must exist) as a read-only array of its shape.

        It is a view, which keeps the mapping alive. It is a copy only if the tensor's address in
        the file is not a multiple of its element size.
        """
        info = self.infos[name]
        if info.dtype not in CARRIERS:
            raise FormatError(f"{self.path}: tensor {name!r}: dtype {info.dtype} is not supported")
        return self._map.array(name, *self._offsets[name], CARRIERS[info.dtype], info.shape)

    def prefer_huge_pages(self) -> None:
        """Ask for pages of 2 MiB for everything that is read from now on (best effort)."""
        self._map.prefer_huge_pages()

    def prefault(self) -> None:
        """Read and map the whole file, so that nothing has to wait for it later (best effort)."""
        self._map.prefault()

    def samples(self, count: int, size: int) -> Iterator[Sample]:
        """The name of each tensor and some of its bytes; see `MappedFile.samples`."""
        return self._map.samples(self._offsets, count, size)

    def release(self, name: str) -> None:
        """Let the operating system drop the whole pages of `name` from memory (best effort).

        Views stay valid; their pages are read from the file again.
        """
        self._map.release(*self._offsets[name])

    def watch(self) -> Watch:
        """Finds out whether the file is overwritten while a view of it exists."""
        return Watch(self.path, self.stamp, self._map.bytes())

    def close(self) -> None:
        """Release the mapping. It goes away with the last array that views it."""
        self._map.close()


def _strings(metadata: Any) -> dict[str, str]:
    found = metadata.items() if isinstance(metadata, dict) else ()
    return {key: value for key, value in found if isinstance(value, str)}


def _is_sizes(value: Any) -> bool:
    # bool is an int in Python, but not in JSON.
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 1 << 63 for item in value
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
