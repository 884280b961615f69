"""Typed access to the metadata of a GGUF file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint

__all__ = ["MetadataReader", "shown"]


def shown(value: Any) -> str:
    """A value as messages show it: short, whatever the file holds."""
    if isinstance(value, (list, np.ndarray)) and len(value) > 8:
        return f"{shown(value[:4])[:-1]}... of {len(value)} items"
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 200 else text[:200] + "..."


class MetadataReader:
    """Reads keys of the file's architecture, `general.architecture`, given without that prefix; and
    other keys in full. Errors name the file, the key and the value.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of a GGUF file.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.metadata is not None
        self._path, self._metadata = checkpoint.path, checkpoint.metadata
        self._prefix = self.text("general.architecture")

    def _full(self, key: str) -> str:
        return key if key.startswith(("general.", "tokenizer.")) else f"{self._prefix}.{key}"

    def wrong(self, key: str, value: Any, expected: str) -> FormatError:
        """The exception for an impossible value."""
        return FormatError(
            f"{self._path}: metadata {self._full(key)!r} must be {expected}, not {shown(value)}"
        )

    def unsupported(self, key: str, value: Any, why: str) -> UnsupportedModelError:
        """The exception for a value that means something that families cannot compute."""
        return UnsupportedModelError(
            f"{self._path}: metadata {shown(self._full(key))} {shown(value)}: {why}"
        )

    def value(self, key: str) -> Any:
        """None if it is absent. An array with one number for each layer is that number, if all are
        equal."""
        found = self._metadata.get(self._full(key))
        if not isinstance(found, np.ndarray):
            return found
        if not found.size:
            raise self.wrong(key, found, "a value")
        if (found != found[0]).any():
            raise self.unsupported(key, found, "different values for layers are not supported")
        return found[0].item()

    def text(self, key: str, default: str | None = None) -> str:
        """A text. The key is required if there is no default."""
        found = self._metadata.get(self._full(key))
        found = default if found is None else found
        if not isinstance(found, str):
            raise self.wrong(key, found, "a text")
        return found

    def integer(
        self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24
    ) -> int:
        """An integer in low..high. The key is required if there is no default."""
        found = self.value(key)
        found = default if found is None else found
        if type(found) is not int or not low <= found <= high:
            raise self.wrong(key, found, f"an integer in {low}..{high}")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0. GGUF has float32; the nearest short decimal is given, so that
        0.000001 stays that number as a float64."""
        found = self.value(key)
        found = default if found is None else found
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < 1e30:
            raise self.wrong(key, found, "a positive number")
        return float(str(np.float32(found)))
