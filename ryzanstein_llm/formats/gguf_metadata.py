"""The key-value pairs of a GGUF file: read in one pass, with long arrays parsed when asked for.

    string  u64 length | UTF-8
    pair    string key | u32 type | value
    array   u32 type of the items | u64 count | items

All numbers are little-endian. (ggml, docs/gguf.md)
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError

__all__ = ["Cursor", "Metadata", "read_metadata", "shortened"]

# The largest header of a released ternary model is about 20 MB: 262,144 tokens with scores.
# Released models have about 50 keys. The limits only keep a wrong file from costing seconds.
MAX_HEADER_BYTES = 100_000_000
MAX_PAIRS = 65_536
MAX_KEY_BYTES = 65_535

# type id -> NumPy type of one item
NUMBERS: dict[int, np.dtype[Any]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
BOOL, STRING, ARRAY = 7, 8, 9

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class Cursor:
    """Reads one value after the other. Every size is compared with the bytes that are left before
    it is used, so wrong sizes cost neither memory nor time.

    Parameters
    ----------
    path : Path
        For messages.
    data : bytes or mmap
    position : int
        Where to begin.
    """

    def __init__(self, path: Path, data: bytes | mmap.mmap, position: int = 0) -> None:
        self.path, self.data, self.position = path, data, position
        self._whole = len(data) <= MAX_HEADER_BYTES
        self._end = len(data) if self._whole else MAX_HEADER_BYTES

    def fail(self, text: str) -> FormatError:
        """The exception for a fault that `text` describes."""
        return FormatError(f"{self.path}: {text}")

    def take(self, size: int, what: str) -> int:
        """The position of `size` bytes, which are skipped."""
        begin = self.position
        if size > self._end - begin:
            limit = "" if self._whole else f" (a header has at most {MAX_HEADER_BYTES})"
            raise self.fail(
                f"truncated: {what} takes {size} bytes at offset {begin}, "
                f"{self._end - begin} are left{limit}"
            )
        self.position = begin + size
        return begin

    def u32(self, what: str) -> int:
        """The next four bytes as an unsigned integer."""
        found: int = _U32.unpack_from(self.data, self.take(4, what))[0]
        return found

    def u64(self, what: str) -> int:
        """The next eight bytes as an unsigned integer."""
        found: int = _U64.unpack_from(self.data, self.take(8, what))[0]
        return found

    def string(self, what: str, limit: int | None = None) -> str:
        """The next string, of at most `limit` bytes."""
        length = self.u64(f"the length of {what}")
        if limit is not None and length > limit:
            raise self.fail(f"{what} is {length} bytes long, more than {limit}")
        begin = self.take(length, what)
        try:
            return self.data[begin : self.position].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(
                f"{what} is not UTF-8: byte 0x{error.object[error.start]:02x} "
                f"at offset {begin + error.start}"
            ) from error

    def number(self, kind: int, what: str) -> Any:
        """The next number of a type id of NUMBERS, as bool, int or float."""
        dtype = NUMBERS[kind]
        begin = self.take(dtype.itemsize, what)
        raw = self.data[begin : self.position]
        if kind == BOOL and raw not in (b"\0", b"\1"):
            raise self.fail(f"{what} must be 0 or 1, found {raw[0]}")
        return np.frombuffer(raw, dtype)[0].item()

    def skip_strings(self, count: int, what: str) -> None:
        """Move behind `count` strings, without decoding them."""
        # one loop without calls: a vocabulary has 150,000 tokens and as many merges
        unpack, data, end = _U64.unpack_from, self.data, self._end
        position, last = self.position, end - 8
        for index in range(count):
            if position > last:
                self.position = min(position, end)
                raise self.fail(f"truncated: item {index} of {count} of {what} is missing")
            position += 8 + unpack(data, position)[0]
        if position > end:
            raise self.fail(f"truncated: the last of {count} items of {what} ends at {position}")
        self.position = position


@dataclass(frozen=True)
class _Items:
    """An array that was not parsed yet: `count` items of a type, at `begin` of the header."""

    kind: int
    count: int
    begin: int


class Metadata(Mapping[str, Any]):
    """The pairs of a file as a read-only mapping, in their order.

    Numbers are int or float, flags bool, texts str. An array of texts is a list[str], and an
    array of numbers or flags is a read-only NumPy array. Arrays are parsed when they are first
    asked for, and this may raise `FormatError` for text that is not UTF-8 and for a flag that is
    neither 0 nor 1.

    Parameters
    ----------
    path : Path
    header : bytes
        The file up to the end of its pairs, or further.
    values : dict
        A value or _Items for each key.
    """

    def __init__(self, path: Path, header: bytes, values: dict[str, Any]) -> None:
        self._path, self._header, self._values = path, header, values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if isinstance(value, _Items):
            value = self._values[key] = self._parse(key, value)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values  # the inherited one would parse the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Metadata({str(self._path)!r}, {len(self)} keys)"

    def _parse(self, key: str, items: _Items) -> Any:
        if items.kind == STRING:
            cursor = Cursor(self._path, self._header, items.begin)
            return self._strings(cursor, items.count, f"metadata {shortened(key)}")
        dtype = NUMBERS[items.kind]
        if items.kind == BOOL:
            raw = np.frombuffer(self._header, np.uint8, items.count, items.begin)
            if items.count and raw.max() > 1:
                bad = int(np.flatnonzero(raw > 1)[0])
                raise FormatError(
                    f"{self._path}: metadata {shortened(key)}: item {bad} must be 0 or 1, "
                    f"found {raw[bad]}"
                )
        array = np.frombuffer(self._header, dtype, items.count, items.begin).copy()
        array.flags.writeable = False
        return array

    def _strings(self, cursor: Cursor, count: int, what: str) -> list[str]:
        data, position, unpack = self._header, cursor.position, _U64.unpack_from
        found = []
        try:
            for _ in range(count):
                begin = position + 8
                position = begin + unpack(data, position)[0]
                found.append(data[begin:position].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{self._path}: {what}: item {len(found)} is not UTF-8: byte "
                f"0x{error.object[error.start]:02x} at offset {begin + error.start}"
            ) from error
        return found


def read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    """`count` pairs, for `Metadata`. Moves the cursor behind them.

    Raises
    ------
    FormatError
        A pair is truncated, too long, of an unknown type, an array of arrays, or its key was there
        before.
    """
    if count > MAX_PAIRS:
        raise cursor.fail(f"{count} metadata keys, more than {MAX_PAIRS}")
    values: dict[str, Any] = {}
    for index in range(count):
        key = cursor.string(f"metadata key {index}", MAX_KEY_BYTES)
        what = f"metadata {shortened(key)}"
        if key in values:
            raise cursor.fail(f"{what}: the key occurs twice")
        values[key] = _read_value(cursor, what)
    return values


def _read_value(cursor: Cursor, what: str) -> Any:
    kind = cursor.u32(f"the type of {what}")
    if kind == STRING:
        return cursor.string(what)
    if kind in NUMBERS:
        return cursor.number(kind, what)
    if kind != ARRAY:
        raise cursor.fail(f"{what}: unknown type {kind}")
    kind = cursor.u32(f"the item type of {what}")
    count = cursor.u64(f"the number of items of {what}")
    items = _Items(kind, count, cursor.position)
    if kind == STRING:
        cursor.skip_strings(count, what)
    elif kind in NUMBERS:
        cursor.take(count * NUMBERS[kind].itemsize, what)
    elif kind == ARRAY:
        raise cursor.fail(f"{what}: an array of arrays is not supported")
    else:
        raise cursor.fail(f"{what}: unknown item type {kind}")
    return items


def shortened(value: object) -> str:
    """The repr of a value from a file, cut to a length that a message can bear."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
