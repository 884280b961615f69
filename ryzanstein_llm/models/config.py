"""Typed access to what a family's config.json says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import FormatError
from ..formats import Checkpoint

__all__ = ["ConfigReader"]


@dataclass(frozen=True)
class ConfigReader:
    """Typed access to config.json; errors name the file, the key and the value."""

    checkpoint: Checkpoint

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default if it is absent or null."""
        found = self.checkpoint.config.get(key)
        return default if found is None else found

    def wrong(self, key: str, value: Any, expected: str) -> FormatError:
        """The exception for a wrong value."""
        return FormatError(
            f"{self.checkpoint.path}: config.json: {key} must be {expected}, not {value!r}"
        )

    def integer(
        self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24
    ) -> int:
        """An integer in low..high. The key is required if there is no default."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, value, f"an integer in {low}..{high}")
        return value

    def positive(self, key: str, default: float | None = None, *, source: Any = None) -> float:
        """A finite number above 0. `source`, unless it is None, is used instead of the value."""
        value = self.value(key, default) if source is None else source
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
            raise self.wrong(key, value, "a positive number")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> dict[str, Any]:
        """A nested object; {} if it is absent or null."""
        value = self.value(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, value, "an object")
        return value
