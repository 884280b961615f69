"""Changes of an input: of its bytes, of its words, and of the JSON in it."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

__all__ = ["MOST_BYTES", "mutate"]

MOST_BYTES = 1 << 18

NUMBERS = (
    0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 257, 4096, 65535, 65536, 1 << 24,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, "", "0", "true", " ", "\ud800", "\0", "é", "𝄞", "x" * 300, [], {}, [[]],
    {"": ""}, [None], 0.0, -0.0, 0.5, 1e-45, 1e38, 1e400, float("nan"), -1, -2, 10**30, -(10**400),
    *NUMBERS, *(-number for number in NUMBERS[1:8]),
)  # fmt: skip


def mutate(data: bytes, random: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Another input, made from `data` by one to eight changes. The same `random` makes the same."""
    as_json = random.random() < 0.75  # a single byte spoils JSON, and then nothing else counts
    for _ in range(random.choice((1, 1, 1, 2, 2, 4, 8))):
        changed = _in_json(data, random) if as_json else None
        data = _in_bytes(data, random, seeds, words) if changed is None else changed
    return data[:MOST_BYTES]


def _in_json(data: bytes, random: Random) -> bytes | None:
    """A change of the JSON that the input is, or that a safetensors file begins with; None if there
    is none."""
    before = after = b""
    text = data
    if data[8:9] == b"{":
        (size,) = struct.unpack("<Q", data[:8])
        if size <= len(data) - 8:
            before, text, after = data[:8], data[8 : 8 + size], data[8 + size :]
    try:
        value = json.loads(text)
        if not isinstance(value, (dict, list)):
            return None
        value = _change(value, random)
        made = json.dumps(value, ensure_ascii=random.random() < 0.9).encode("utf-8", "replace")
    except (ValueError, OverflowError, RecursionError):
        return None
    if before:
        made += b" " * (-len(made) % 8)
        before = struct.pack("<Q", len(made))
    return before + made + after


def _change(value: Any, random: Random) -> Any:
    """Go to a random place of a JSON value and change what is there."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    if not keys or random.random() < 0.05:
        return _replacement(value, random)
    key = random.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and random.random() < 0.85:
        value[key] = _change(value[key], random)
        return value
    kind = random.random()
    if kind < 0.7:
        value[key] = _replacement(value[key], random)
    elif kind < 0.85:
        del value[key]
    elif kind < 0.95:  # what stands elsewhere
        value[key] = value[random.choice(keys)]
    elif isinstance(value, dict):
        value[str(key) + random.choice(("_", "s", "", "\ud800"))] = value.pop(key)
    else:
        value *= random.randrange(4)
    return value


def _replacement(value: Any, random: Random) -> Any:
    kind = random.random()
    if type(value) in (int, float) and kind < 0.4:
        return random.choice((value + 1, value - 1, -value, value * 2, value // 3, value * 1000))
    if isinstance(value, str) and kind < 0.3:
        at = random.randrange(len(value) + 1)
        return (
            value[:at] + random.choice(("", "0", "\n", "\\", "[", "$", "{", "é")) + value[at + 1 :]
        )
    if kind < 0.45:
        return [value] * random.randrange(5)
    if kind < 0.5:
        return {"a": value}
    return copy.deepcopy(random.choice(VALUES))


def _in_bytes(data: bytes, random: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    # headers are short and decide more
    at = random.randrange(min(len(data), random.choice((64, 4096, MOST_BYTES))) + 1)
    size = min(1 << random.randrange(8), len(data) - at)
    kind = random.randrange(9)
    if kind == 0:  # a bit
        if at == len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + random.randbytes(size) + data[at + size :]
    if kind == 2:  # a number
        width = random.choice((1, 2, 4, 8))
        number = random.choice(NUMBERS) % (1 << 8 * width)
        return data[:at] + number.to_bytes(width, "little") + data[at + width :]
    if kind == 3:
        return data[:at] + data[at + size :]
    if kind == 4:  # again
        return data[:at] + data[at : at + size] * random.randrange(1, 9) + data[at + size :]
    if kind == 5 and words:
        return data[:at] + random.choice(words) + data[at + random.choice((0, size)) :]
    if kind == 6 and seeds:  # the end of another
        other = random.choice(seeds)
        return data[:at] + other[random.randrange(len(other) + 1) :]
    if kind == 7:  # from elsewhere
        begin = random.randrange(len(data) + 1)
        return data[:at] + data[begin : begin + size] + data[at:]
    return data[:at]
