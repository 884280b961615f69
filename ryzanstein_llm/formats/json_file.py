"""Reading the small text files of a checkpoint: bounded in size, UTF-8, typed errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import FormatError
from .unreadable import unreadable

__all__ = ["MAX_TEXT_BYTES", "parse_json_object", "read_bytes", "read_json_object", "read_text"]

# The largest such file of a released ternary model is a 17 MB tokenizer; config and index
# files have less than 1 MB. The limit only keeps a wrong file from filling the memory.
MAX_TEXT_BYTES = 64 << 20


def read_bytes(path: Path, *, limit: int = MAX_TEXT_BYTES) -> bytes:
    """All bytes of a file.

    Raises
    ------
    CheckpointNotFoundError
        The file does not exist or cannot be read.
    ResourceLimitError
        There are no more file descriptors, or too little memory.
    FormatError
        It holds more than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if len(data) > limit:
        raise FormatError(f"{path}: larger than {limit} bytes, too large for its kind")
    return data


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises what `read_bytes` raises, and
    `FormatError` if the bytes are not UTF-8."""
    return _decode(read_bytes(path), path)


def read_json_object(path: Path, *, unique: bool = False) -> dict[str, Any]:
    """The object (never a list or a scalar) in a JSON file. Raises what `read_text` raises, and
    `FormatError` if the text is not JSON or not an object. `unique`: see `parse_json_object`."""
    return parse_json_object(read_bytes(path), path, unique=unique)


def parse_json_object(
    data: bytes, path: Path, *, what: str = "", unique: bool = False
) -> dict[str, Any]:
    """The JSON object in the bytes `data`, which were read from `path`.

    Parameters
    ----------
    what : str
        The part of the file, for messages; by default the whole file.
    unique : bool
        Refuse a key that is given twice. JSON readers differ in which of the two counts, so lists
        of tensors must not have one. In a config the last one counts, as in most readers.

    Raises
    ------
    FormatError
        Not UTF-8, not JSON, nested too deeply, or not an object.
    """
    where = f"{path}: {what}" if what else f"{path}"
    try:
        value = json.loads(
            _decode(data, path, what=what),
            object_pairs_hook=without_duplicates if unique else None,
        )
    except FormatError:
        raise
    except RecursionError as error:
        raise FormatError(f"{where}: not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{where}: expected a JSON object, found {_json_kind(value)}")
    return value


def _decode(data: bytes, path: Path, *, what: str = "") -> str:
    try:
        return data.decode("utf-8-sig")  # Windows editors write a byte order mark
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path}: {what or 'text'} is not UTF-8: byte 0x{data[error.start]:02x} "
            f"at offset {error.start}"
        ) from error


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`. Raises ValueError if a key occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:200]!r} occurs twice")
            seen.add(key)
    return result


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "a list", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)
