"""The options of a chat's answers, which `/set` shows and changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidParameterError
from ..errors.suggestion import did_you_mean
from .sampling import RANDOM, SAMPLING

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = ["UNLIMITED", "ChatSettings", "check_settings"]

UNLIMITED = -1
"""`max_tokens` of answers that end where the context ends."""


def _limit(text: str) -> int:
    """The value of `/set max_tokens`."""
    if text == "none":
        return UNLIMITED
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"must be an integer or none, not {text!r}") from None


SETTINGS: dict[str, Callable[[str], Any]] = {
    "max_tokens": _limit,
    **{field: kind for field, (_, kind, _, _) in SAMPLING.items()},
    "overflow": str,
}
"""What `/set` knows, and how each value is read."""


class ChatSettings:
    """Values by name; what has none comes from the checkpoint.

    Parameters
    ----------
    model : BitNetModel
    options : mapping
        `seed`, `overflow`, and what else the command line sets.
    """

    def __init__(self, model: BitNetModel, options: Mapping[str, Any]) -> None:
        self._model, self._options = model, dict(options)

    @property
    def overflow(self) -> str:
        overflow: str = self._options["overflow"]
        return overflow

    def for_answer(self, retries: int) -> dict[str, Any]:
        """The options of `generate` for the next answer. Another try has another seed."""
        options = dict(self._options)
        options["seed"] = (options["seed"] + retries) % (1 << 64)
        if options.get("max_tokens") == UNLIMITED:
            options["max_tokens"] = None
        if options.get("max_tokens") is None and options["overflow"] == "shift":
            options["max_tokens"] = self._model.context_length  # or it might never end
        return options

    def in_effect(self) -> dict[str, str]:
        """All values, also those that come from the checkpoint."""
        from ..sampling import SamplingParams

        own = {name: value for name, value in self._options.items() if name in SAMPLING}
        params = SamplingParams.from_checkpoint(self._model, **own)
        limit = self._options.get("max_tokens", UNLIMITED)
        values = {
            "max_tokens": "none" if limit == UNLIMITED else limit,
            **{name: getattr(params, name) for name in SAMPLING},
            "overflow": self.overflow,
        }
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in values.items()
        }

    def named(self, name: str) -> str:
        """The name of a value, as it was typed, with `_` for `-`. Raises InvalidParameterError."""
        found = name.replace("-", "_")
        if found not in SETTINGS:
            hint = did_you_mean(found, SETTINGS) or f"the options are {', '.join(SETTINGS)}"
            raise InvalidParameterError(f"there is no option {found!r}; {hint}")
        return found

    def change(self, name: str, text: str) -> None:
        """Change one value. Raises InvalidParameterError."""
        try:
            value = SETTINGS[name](text)
        except click.BadParameter as error:
            raise InvalidParameterError(f"{name} {error.message}") from None
        if name == "seed" and value == RANDOM:
            value = int.from_bytes(os.urandom(4), "little")
        changed = {**self._options, name: value}
        check_settings(changed)
        self._options = changed


def check_settings(options: dict[str, Any]) -> None:
    """Check options before anything is done with them."""
    from ..options import GenerationOptions
    from ..sampling import SamplingParams
    from ..validation import check_int

    own = ("max_tokens", "overflow")
    SamplingParams(**{name: value for name, value in options.items() if name not in own})
    if "overflow" in options:
        GenerationOptions(overflow=options["overflow"])
    if "max_tokens" in options:
        check_int("max_tokens", options["max_tokens"], UNLIMITED, 1 << 31)
