"""SamplingParams: how a caller wants the next token to be chosen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from ..errors import FormatError, InvalidParameterError
from ..errors.suggestion import did_you_mean
from ..notebook import as_html
from ..validation import check_float, check_int

__all__ = ["GREEDY_BELOW", "Defaults", "SamplingParams", "source_of"]

log = logging.getLogger(__name__)

GREEDY_BELOW = 1e-30
"""Smaller temperatures count as 0, because float32 cannot hold very small ones."""

ALIKE = 0.85
"""A key this similar (difflib's ratio) to a missing one is taken for a typing error."""

STORED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
"""The parameters that a generation_config.json may hold. All but the last only matter if tokens are
sampled."""


class Defaults(Protocol):
    """The parts of a `BitNetModel` that `from_checkpoint` reads."""

    path: Path
    generation_config: dict[str, Any]


@dataclass(frozen=True, repr=False)
class SamplingParams:
    """How to choose the next token. The default is greedy: the likeliest token, and of equally
    likely ones the lowest id.

    Applied in this order: penalties, temperature, top_k, top_p, min_p, typical_p. Before them come
    the logit_bias and the logits_processor of a request.

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
        """The defaults of the checkpoint's generation_config.json, or of the metadata of a GGUF
        file, with `overrides` on top. See `from_generation_config`.

        Raises
        ------
        FormatError
            If the file holds a value outside its range, and that value would be used.
        InvalidParameterError
            If an override is unknown or outside its range, or `model` is no model.
        """
        config = getattr(model, "generation_config", None)
        if not isinstance(config, Mapping):
            raise InvalidParameterError(f"must be a BitNetModel, not {model!r}", "model")
        return cls.from_generation_config(config, source_of(model), **overrides)

    @classmethod
    def from_generation_config(
        cls, config: Mapping[str, Any], source: str, /, **overrides: Any
    ) -> SamplingParams:
        """The values of a generation_config.json, with `overrides` on top.

        Without `do_sample: true`, the temperature is 0, which is greedy. Values outside their
        ranges are logged and left out if nobody uses them: those that an override replaces, those
        that only matter for sampling if the file or an override says greedy, and `top_k: -1`, with
        which other programs switch the filter off.

        Parameters
        ----------
        config : mapping
            Other keys are ignored.
        source : str
            The file, for messages.
        overrides
            Fields of SamplingParams. None keeps the stored value.

        Raises
        ------
        FormatError
            If `config` holds a value outside its range that is used, or a key that looks like one
            which is used and missing.
        InvalidParameterError
            If an override is unknown or outside its range.
        """
        checked = cls().with_overrides(overrides)
        given = {name: value for name, value in overrides.items() if value is not None}
        do_sample = config.get("do_sample")
        if do_sample is not None and not isinstance(do_sample, bool):
            problem = f"do_sample must be true or false, not {do_sample!r}"
            raise FormatError(f"{source}: {_cut_off(problem)}")
        greedy = not do_sample or ("temperature" in given and checked.temperature < GREEDY_BELOW)
        wanted = ("do_sample", "repetition_penalty") if greedy else ("do_sample", *STORED)
        _refuse_misspelt(config, [name for name in wanted if name not in given], source)
        stored: dict[str, Any] = {"temperature": 1.0 if do_sample else 0.0}
        for name in STORED:
            value = config.get(name)
            if value is None or name in given or (name == "temperature" and not do_sample):
                continue
            try:
                cls(**{name: value})
            except InvalidParameterError as error:
                problem = _cut_off(str(error))
                unused = greedy and name != "repetition_penalty"
                if not (unused or (name == "top_k" and value == -1)):
                    raise FormatError(f"{source}: {problem}") from None
                log.info("%s: left out, because nothing uses it: %s", source, problem)
            else:
                stored[name] = value
        return replace(checked, **{name: stored[name] for name in stored if name not in given})

    def with_overrides(self, overrides: Mapping[str, Any]) -> SamplingParams:
        """A copy with some values replaced; None keeps a value.

        Raises
        ------
        InvalidParameterError
            If a name is unknown or a value outside its range.
        """
        if not isinstance(overrides, Mapping):
            problem = f"must be a mapping from names to values, not {overrides!r}"
            raise InvalidParameterError(problem, "overrides")
        unknown = [name for name in overrides if name not in self.__dataclass_fields__]
        if unknown:
            name, known = str(unknown[0]), self.__dataclass_fields__
            hint = did_you_mean(name, known) or f"the parameters are {', '.join(known)}"
            raise InvalidParameterError(f"is no sampling parameter; {hint}", name)
        return replace(
            self, **{name: value for name, value in overrides.items() if value is not None}
        )


def source_of(model: Defaults) -> str:
    """Where the defaults of a model are written, for messages."""
    if model.path.suffix.lower() == ".gguf":
        return f"{model.path}: metadata general.sampling"
    return f"{model.path}: generation_config.json"


def _cut_off(problem: str) -> str:
    """A message that repeats a stored value, which may be of any length."""
    return problem if len(problem) <= 300 else f"{problem[:300]}…"


def _refuse_misspelt(config: Mapping[str, Any], wanted: Sequence[str], source: str) -> None:
    missing = [name for name in wanted if name not in config]
    for key in config:
        close = [] if key in STORED else get_close_matches(str(key).lower(), missing, 1, ALIKE)
        if close:
            raise FormatError(f"{source}: {key}: there is no such key; did you mean {close[0]!r}?")
