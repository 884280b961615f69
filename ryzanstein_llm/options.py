"""The options of a generation, checked once, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from .errors import InvalidParameterError
from .sampling import SamplingParams
from .structured import OUTPUT_ARGUMENTS, OutputFormat
from .text.stop_strings import StopStrings
from .validation import check_bool, check_int

__all__ = ["GenerationArguments", "GenerationOptions"]


class GenerationArguments(TypedDict, total=False):
    """Keyword arguments of `generate` and `stream`.

    max_tokens : int >= 0, or None
        The largest number of new tokens. None: up to the end of the context.
    stop : str or sequence of str
        The text ends before the first of these that appears.
    ignore_eos : bool
        Continue after end-of-text tokens.
    sampling : SamplingParams
        How to choose tokens. The arguments after the next four are its fields, and override them.
    schema : dict, class of Pydantic, or dataclass
        The text is JSON that this JSON schema accepts.
    regex : str
        The text matches this regular expression from beginning to end.
    choices : sequence of str
        The text is one of these.
    grammar : str
        The text follows this grammar, in llguidance's Lark or in GBNF.
    """

    max_tokens: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    sampling: SamplingParams | None
    schema: Mapping[str, Any] | type | None
    regex: str | None
    choices: Sequence[str] | None
    grammar: str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None


@dataclass(frozen=True)
class GenerationOptions:
    """The checked form of `GenerationArguments`.

    Attributes
    ----------
    max_tokens : int >= 0, or None
    stop : tuple of str
    ignore_eos : bool
    sampling : SamplingParams
    output : OutputFormat or None
        The form that `schema`, `regex`, `choices` or `grammar` asks for.

    Raises
    ------
    InvalidParameterError
        If a value is outside its range.
    """

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    output: OutputFormat | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            count = check_int("max_tokens", self.max_tokens, 0, 1 << 31)
            object.__setattr__(self, "max_tokens", count)
        object.__setattr__(self, "ignore_eos", check_bool("ignore_eos", self.ignore_eos))
        stop: Any = self.stop
        stops = () if stop is None else (stop,) if isinstance(stop, str) else stop
        if not isinstance(stops, Sequence):
            raise InvalidParameterError(f"must be a str or a sequence of str, not {stop!r}", "stop")
        StopStrings(stops)  # raises unless each is a non-empty str
        object.__setattr__(self, "stop", tuple(stops))
        if not isinstance(self.sampling, SamplingParams):
            raise InvalidParameterError(
                f"must be SamplingParams, not {self.sampling!r}", "sampling"
            )
        if self.output is not None and self.ignore_eos:
            problem = f"must be False with {self.output.argument}, which says where the text ends"
            raise InvalidParameterError(problem, "ignore_eos")

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> GenerationOptions:
        """Make options from keyword arguments. Raises InvalidParameterError if one is wrong or
        unknown."""
        names = [name for name in cls.__dataclass_fields__ if name != "output"]
        own = {name: arguments[name] for name in names if name in arguments}
        if own.get("sampling", ...) is None:
            del own["sampling"]
        options = cls(**own, output=OutputFormat.from_arguments(arguments))
        names += OUTPUT_ARGUMENTS
        others = {name: value for name, value in arguments.items() if name not in names}
        unknown = sorted(set(others) - set(SamplingParams.__dataclass_fields__))
        if unknown:
            known = ", ".join([*names, *SamplingParams.__dataclass_fields__])
            raise InvalidParameterError(f"is no option; the options are {known}", unknown[0])
        if not others:
            return options
        return replace(options, sampling=options.sampling.with_overrides(others))
