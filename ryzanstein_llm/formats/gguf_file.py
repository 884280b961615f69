"""One `.gguf` file, version 2 or 3: its header, which is checked in full, and its mapped bytes.

    "GGUF" | u32 version | u64 number of tensors | u64 number of pairs
    pairs            see gguf_metadata
    for each tensor  string name | u32 n | n x u64 sizes, the fastest first | u32 type | u64 offset
    padding to a multiple of general.alignment, then tensor data

Offsets count from the beginning of the data and are multiples of the alignment. (ggml,
docs/gguf.md)
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .dtypes import CARRIERS
from .gguf_metadata import Cursor, Metadata, read_metadata, shortened
from .gguf_types import BlockType, candidates, settle
from .mapped_file import FileStamp, MappedFile, Sample, TensorInfo
from .unreadable import unreadable
from .watch import Watch

__all__ = ["MAGIC", "GgufFile"]

MAGIC = b"GGUF"
FIXED_BYTES = 24  # magic, version, two counts

# Limits as in ggml, and one that only keeps a wrong file from costing seconds: released ternary
# models have about 500 tensors.
MAX_DIMENSIONS = 4
MAX_TENSORS = 65_536
MAX_NAME_BYTES = 1024
MAX_ALIGNMENT = 65_536


@dataclass(frozen=True)
class _Entry:
    """What the header says about a tensor. `room`: bytes up to the next one, or to the end."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int
    types: tuple[BlockType, ...]
    room: int = 0


class GgufFile:
    """A checked, memory-mapped GGUF file.

    The mapping is read-only and shared with every process that opens the file. The file must not
    be truncated while it is open, because a read beyond its end kills the process (SIGBUS).

    Attributes
    ----------
    path : Path
    header : bytes
        Everything before the tensor data, as it is in the file.
    size : int
        In bytes.
    stamp : FileStamp
        When the file was opened.
    metadata : Metadata
        The key-value pairs, in the order of the file.
    infos : Mapping[str, TensorInfo]
        By name, in the order of the data. `dtype` is the name of a type of `gguf_types`, `shape`
        has the slowest dimension first, as in NumPy: (rows, columns).
    """

    def __init__(self, path: Path) -> None:
        """
        Raises
        ------
        CheckpointNotFoundError
            The file does not exist or cannot be read.
        ResourceLimitError
            There are no more file descriptors, or too little memory.
        FormatError
            It is no GGUF file of a version and byte order that can be read; or a count, a length, a
            type, an offset or a size is not what the format says. The message names the key or
            the tensor, and the value.
        """
        self.path = path
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                self.size = status.st_size
                self.stamp = FileStamp.of(status)
                self._check_start(file.read(FIXED_BYTES))
                self._map = MappedFile(path, file.fileno(), self.size)
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _check_start(self, start: bytes) -> None:
        if not start.startswith(MAGIC):
            raise FormatError(
                f"{self.path}: not a GGUF file: it begins with {start[:4]!r}, not {MAGIC!r}"
            )
        if len(start) < FIXED_BYTES:
            raise FormatError(
                f"{self.path}: truncated: {len(start)} bytes, a GGUF file has at least "
                f"{FIXED_BYTES}"
            )
        version = int.from_bytes(start[4:8], "little")
        if version in (2, 3):
            return
        if version == 1:
            raise FormatError(
                f"{self.path}: GGUF version 1 is not supported, only 2 and 3 (files of August "
                "2023 and before; convert the model again)"
            )
        if 1 <= int.from_bytes(start[4:8], "big") <= 3:
            raise FormatError(f"{self.path}: a big-endian GGUF file; only little-endian ones work")
        raise FormatError(f"{self.path}: GGUF version {version} is not supported, only 2 and 3")

    def _read_header(self) -> None:
        cursor = Cursor(self.path, self._map.bytes(), 8)
        n_tensors = cursor.u64("the number of tensors")
        n_pairs = cursor.u64("the number of metadata keys")
        if n_tensors > MAX_TENSORS:
            raise cursor.fail(f"{n_tensors} tensors, more than {MAX_TENSORS}")
        values = read_metadata(cursor, n_pairs)
        alignment = _alignment(cursor, values)
        architecture = values.get("general.architecture")
        if not isinstance(architecture, str):
            architecture = ""
        entries: dict[str, _Entry] = {}
        for index in range(n_tensors):
            entry = _read_entry(cursor, index, architecture)
            if entry.name in entries:
                raise cursor.fail(f"tensor {shortened(entry.name)}: the name occurs twice")
            entries[entry.name] = entry
        self.header = self._map.bytes()[: cursor.position]
        self.metadata = Metadata(self.path, self.header, values)
        begin = -(-cursor.position // alignment) * alignment
        placed = self._placed(list(entries.values()), alignment, max(self.size - begin, 0))
        types = self._settled(placed, alignment)
        self._offsets: dict[str, tuple[int, int]] = {}
        infos: dict[str, TensorInfo] = {}
        for entry in placed:
            kind = types[entry.type_id]
            nbytes = self._checked_size(entry, kind, alignment)
            self._offsets[entry.name] = (begin + entry.offset, begin + entry.offset + nbytes)
            infos[entry.name] = TensorInfo(entry.name, kind.name, entry.shape, self.path, nbytes)
        self.infos: Mapping[str, TensorInfo] = infos

    def _placed(self, entries: list[_Entry], alignment: int, available: int) -> list[_Entry]:
        """The entries in the order of the data, each with its room."""
        if not entries:
            if available >= alignment:
                raise FormatError(f"{self.path}: {available} bytes of data, but no tensors")
            return []
        entries.sort(key=lambda entry: entry.offset)
        ends = [*(entry.offset for entry in entries[1:]), available]
        placed = []
        for entry, end in zip(entries, ends, strict=True):
            if entry.offset % alignment:
                raise self._fail(entry, f"offset {entry.offset} is no multiple of {alignment}")
            if entry.offset >= available:
                raise self._fail(
                    entry,
                    f"offset {entry.offset} is outside the file, which holds {available} bytes of "
                    "tensor data (truncated?)",
                )
            if entry.offset >= end:
                raise self._fail(entry, f"offset {entry.offset} is that of another tensor too")
            placed.append(replace(entry, room=end - entry.offset))
        if placed[0].offset:
            raise self._fail(placed[0], f"the first offset is {placed[0].offset}, not 0")
        return placed

    def _settled(self, placed: list[_Entry], alignment: int) -> dict[int, BlockType]:
        """What each type id means in this file."""
        settled = {}
        for type_id in {entry.type_id: None for entry in placed}:
            members = [entry for entry in placed if entry.type_id == type_id]
            types = members[0].types
            if len(types) > 1:
                fitting = settle(
                    (entry.types, entry.shape, *_sizes(entry.room, alignment)) for entry in members
                )
                if len(fitting) != 1:
                    names = " or ".join(kind.name for kind in fitting or types)
                    fault = "fits none of" if not fitting else "does not tell which it is:"
                    raise self._fail(
                        members[0],
                        f"type id {type_id}: the size of the data, {members[0].room} bytes for "
                        f"shape {members[0].shape}, {fault} {names}",
                    )
                types = tuple(fitting)
            settled[type_id] = types[0]
        return settled

    def _checked_size(self, entry: _Entry, kind: BlockType, alignment: int) -> int:
        # Tensors must lie end to end. A gap could hide data, and a size that is not that of the
        # type means another layout under the same number.
        if not kind.nbytes:
            return entry.room
        size = kind.size(entry.shape)
        if size is None:
            raise self._fail(
                entry,
                f"{kind.name} of shape {entry.shape} is not a whole number of blocks of "
                f"{kind.elements} elements",
            )
        least, most = _sizes(entry.room, alignment)
        if not least <= size <= most:
            raise self._fail(
                entry,
                f"{kind.name} of shape {entry.shape} takes {size} bytes, but there are "
                f"{entry.room} bytes up to the next tensor or the end of the file",
            )
        return size

    def _fail(self, entry: _Entry, text: str) -> FormatError:
        return FormatError(f"{self.path}: tensor {shortened(entry.name)}: {text}")

    def array(self, name: str) -> NDArray[Any]:
        """The tensor `name` (which must exist), read-only and as a view where alignment allows it.

        Plain numbers come in their shape and in the type that `dtypes.CARRIERS` gives, everything
        else as the bytes of the file: uint8 (nbytes,).
        """
        info = self.infos[name]
        carrier = CARRIERS.get(info.dtype)
        shape = (info.nbytes,) if carrier is None else info.shape
        return self._map.array(name, *self._offsets[name], carrier or np.dtype("u1"), shape)

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
        """Release the mapping. It goes away with the last array that views it. Metadata stay."""
        self._map.close()


def _alignment(cursor: Cursor, values: Mapping[str, Any]) -> int:
    value = values.get("general.alignment", 32)
    if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise cursor.fail(
            "metadata 'general.alignment' must be a power of two from 8 to "
            f"{MAX_ALIGNMENT}, found {shortened(value)}"
        )
    return value


def _read_entry(cursor: Cursor, index: int, architecture: str) -> _Entry:
    name = cursor.string(f"the name of tensor {index}", MAX_NAME_BYTES)
    what = f"tensor {shortened(name)}"
    n_dimensions = cursor.u32(f"the number of dimensions of {what}")
    if n_dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"{what}: {n_dimensions} dimensions, more than {MAX_DIMENSIONS}")
    sizes = [cursor.u64(f"a size of {what}") for _ in range(n_dimensions)]
    shape = tuple(reversed(sizes))
    if 0 in shape or math.prod(shape) >= 1 << 63:
        raise cursor.fail(f"{what}: shape {shape} is not a possible size")
    type_id = cursor.u32(f"the type of {what}")
    types = candidates(type_id, architecture)
    if not types:
        raise cursor.fail(f"{what}: unknown type id {type_id}")
    return _Entry(name, shape, type_id, cursor.u64(f"the offset of {what}"), types)


def _sizes(room: int, alignment: int) -> tuple[int, int]:
    """The least and the most bytes that fill `room` when they are rounded up to the alignment."""
    return (room - 1) // alignment * alignment + 1, room
