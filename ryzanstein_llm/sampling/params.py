"""SamplingParams: how a caller wants the next token to be chosen."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import FormatError, InvalidParameterError
from ..notebook import as_html
from ..validation import check_float, check_int

__all__ = ["GREEDY_BELOW", "Defaults", "SamplingParams"]

GREEDY_BELOW = 1e-30
"""Smaller temperatures count as 0, because float32 cannot hold very small ones."""


class Defaults(Protocol):
    """The parts of a `BitNetModel` that `from_checkpoint` reads."""

    path: Path
    generation_config: dict[str, Any]


@dataclass(frozen=True, repr=False)
class SamplingParams:
    """How to choose the next token. The default is greedy: the likeliest token, and of equally
    likely ones the lowest id.

    Applied in this order: penalties, temperature, top_k, top_p, min_p, typical_p.

    Parameters
    ----------
    temperature : float in [0, 100]
        Divides the logits. 0 is greedy, and so is anything below 1e-30.
    top_k : int >= 0
        Keep the k likeliest tokens; 0 keeps all.
    top_p : float in (0, 1]
        Keep as few of the likeliest tokens as sum to p (Holtzman et al. 2020, arXiv 1904.09751).
    min_p : float in [0, 1]
        Drop tokens with less than p times the probability of the likeliest
        (Nguyen et al. 2024, arXiv 2407.01082).
    typical_p : float in (0, 1]
        Keep the tokens whose surprise is nearest to the entropy, until they sum to p
        (Meister et al. 2023, arXiv 2202.00666).
    repetition_penalty : float in [0.01, 100]
        The logits of tokens in the prompt or the output are divided by it if positive, and
        multiplied by it if negative (Keskar et al. 2019, arXiv 1909.05858); 1 is off.
    presence_penalty, frequency_penalty : float in [-100, 100]
        Subtracted from the logit of each generated token: presence_penalty once,
        frequency_penalty for each time the token was generated.
    seed : int in [0, 2**64), optional
        The same seed gives the same text. None draws a seed from the operating system.

    Raises
    ------
    InvalidParameterError
        If a value is outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "temperature": check_float("temperature", self.temperature, 0, 100),
            "top_k": check_int("top_k", self.top_k, 0, 1 << 31),
            "top_p": check_float("top_p", self.top_p, 0, 1, above_low=True),
            "min_p": check_float("min_p", self.min_p, 0, 1),
            "typical_p": check_float("typical_p", self.typical_p, 0, 1, above_low=True),
            "repetition_penalty": check_float(
                "repetition_penalty", self.repetition_penalty, 0.01, 100
            ),
            "presence_penalty": check_float("presence_penalty", self.presence_penalty, -100, 100),
            "frequency_penalty": check_float(
                "frequency_penalty", self.frequency_penalty, -100, 100
            ),
        }
        if self.seed is not None:
            checked["seed"] = check_int("seed", self.seed, 0, (1 << 64) - 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _changed(self) -> dict[str, Any]:
        """The values that differ from the defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed().items())
        return f"SamplingParams({changed})"

    def _repr_html_(self) -> str:
        changed = {name: repr(value) for name, value in self._changed().items()}
        return as_html("SamplingParams", changed or "the defaults: greedy")

    @classmethod
    def from_checkpoint(cls, model: Defaults, **overrides: Any) -> SamplingParams:
        """The defaults of the checkpoint's generation_config.json, with `overrides` on top.

        `do_sample: false`, or no file, means greedy.

        Raises
        ------
        FormatError
            If the file holds a value outside its range.
        InvalidParameterError
            If an override is unknown or outside its range.
        """
        found = model.generation_config
        names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
        stored = {name: found[name] for name in names if found.get(name) is not None}
        if not found.get("do_sample", False):
            stored["temperature"] = 0.0
        else:
            stored.setdefault("temperature", 1.0)
        try:
            params = cls(**stored)
        except InvalidParameterError as error:
            raise FormatError(f"{model.path}: generation_config.json: {error}") from None
        return params.with_overrides(overrides)

    def with_overrides(self, overrides: dict[str, Any]) -> SamplingParams:
        """A copy with some values replaced; None keeps a value."""
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return replace(self, **given)
        except TypeError:
            unknown = ", ".join(sorted(set(given) - set(self.__dataclass_fields__)))
            known = ", ".join(self.__dataclass_fields__)
            raise InvalidParameterError(
                f"unknown sampling parameter: {unknown}; the parameters are {known}"
            ) from None
