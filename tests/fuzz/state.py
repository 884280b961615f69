"""What a child did, in memory that outlives it: counts, and the input that it was reading."""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections import Counter
from pathlib import Path

__all__ = ["State"]

SIZE = 1 << 20
HEAD = struct.Struct("<QQB")  # executions, bytes of the input, whether it is being read


class State:
    """Shared by a child, which writes, and its parent, which reads.

    Parameters
    ----------
    folder : Path
        Of the target.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._outcomes = folder / "state", Counter[str]()
        if not self._path.exists():
            self._path.write_bytes(bytes(SIZE))
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._written = time.monotonic()

    def reset(self) -> None:
        """Before a child is started."""
        self._map[: HEAD.size] = bytes(HEAD.size)
        self._path.with_suffix(".json").unlink(missing_ok=True)

    def begin(self, data: bytes) -> None:
        count, _, _ = HEAD.unpack_from(self._map)
        data = data[: SIZE - HEAD.size]
        self._map[HEAD.size : HEAD.size + len(data)] = data
        HEAD.pack_into(self._map, 0, count, len(data), 1)

    def end(self, outcome: str) -> None:
        count, size, _ = HEAD.unpack_from(self._map)
        HEAD.pack_into(self._map, 0, count + 1, size, 0)
        self._outcomes[outcome] += 1
        if time.monotonic() - self._written > 2:
            self.finish()

    def finish(self) -> None:
        """Write what was counted."""
        self._written = time.monotonic()
        self._path.with_suffix(".json").write_text(json.dumps(self._outcomes))

    @property
    def executions(self) -> int:
        count: int = HEAD.unpack_from(self._map)[0]
        return count

    @property
    def unfinished(self) -> bytes | None:
        """The input that was being read; None if none was."""
        _, size, reading = HEAD.unpack_from(self._map)
        return self._map[HEAD.size : HEAD.size + size] if reading else None

    @property
    def outcomes(self) -> Counter[str]:
        """How many inputs were accepted, and how many raised which error."""
        path = self._path.with_suffix(".json")
        return Counter(json.loads(path.read_text())) if path.exists() else Counter()
