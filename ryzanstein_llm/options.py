"""The options of a generation, checked once, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

from .errors import InvalidParameterError
from .errors.suggestion import did_you_mean
from .sampling import BAN, MOST_LOGPROBS, Adjustments, LogitsProcessor, SamplingParams
from .structured import OUTPUT_ARGUMENTS, OutputFormat
from .text.stop_strings import StopStrings
from .text.vocabulary import Vocabulary
from .validation import (
    check_bool,
    check_choice,
    check_float,
    check_int,
    check_token_ids,
)

__all__ = ["GenerationArguments", "GenerationOptions"]


MOST_GUESSES = 64

OVERFLOWS = ("error", "truncate", "shift")

ELSEWHERE = {
    "n": "generate of a model has it; of a session, fork() gives several continuations",
    "errors": "generate of a model has it, for a list of prompts",
    "progress": "generate of a model has it",
    "return_result": "a stream has its result at its end, as the attribute result",
    "stream": "the methods stream and chat_stream give a text in pieces",
}
"""Names that are no options of the method that was called, and where to find what they mean."""

Bias = Mapping[int, float] | Mapping[str, float] | Mapping[int | str, float]


class GenerationArguments(TypedDict, total=False):
    """Keyword arguments of `generate` and `stream`.

    max_tokens : int >= 0, or None
        The largest number of new tokens. None: up to the end of the context.
    stop : str or sequence of str
        The text ends before the first of these that appears.
    ignore_eos : bool
        Continue after end-of-text tokens.
    overflow : "error", "truncate" or "shift"
        What to do when the context is too short. "error": a prompt that does not fit is an error,
        and the text ends where the context ends. "truncate": the oldest tokens of the prompt are
        left out so that `max_tokens` more fit. "shift": whenever the context is full, the older
        half of it is dropped, and the rest is computed again. Beginning-of-text stays.
    min_tokens : int >= 0
        The text ends with no token before it has so many. If its form allows no more tokens before,
        that is an error.
    stop_token_ids : sequence of int
        More tokens that end the text and are not part of it, with finish_reason "stop".
    logit_bias : mapping from token ids or texts of one token to float in [-100, 100]
        Added to the logits; -100 rules a token out.
    logits_processor : callable (tokens, logits), or several
        Changes the logits, float32 (vocab_size,), before the choice; see `Adjustments`.
    logprobs : int in 0..20
        Report the log probability of each token, and of so many of the likeliest.
    prompt_lookup_num_tokens : int in 0..64, or None
        Guess at most so many tokens at a time, from what followed the last three tokens earlier in
        the prompt or the text, and compute them in one pass. The text is the same, and comes sooner
        where it repeats something. Only guesses that pay are computed. 0: none. None: 15 for models
        of 50 million weights and more, and 0 for smaller ones, whose passes are so short that
        looking for guesses takes some percent of them.
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
    overflow: Literal["error", "truncate", "shift"] | None
    min_tokens: int | None
    stop_token_ids: Sequence[int] | None
    logit_bias: Bias | None
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None
    logprobs: int | None
    prompt_lookup_num_tokens: int | None
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
    overflow : str
    min_tokens : int >= 0
    stop_token_ids : tuple of int
    logit_bias : mapping from int or str to float
    logits_processor : tuple of callable
    logprobs : int in 0..20, or None
    prompt_lookup_num_tokens : int in 0..64, or None
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
    overflow: str = "error"
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Bias = field(default_factory=dict)
    logits_processor: tuple[LogitsProcessor, ...] = ()
    logprobs: int | None = None
    prompt_lookup_num_tokens: int | None = None
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
        self._check_adjustments()
        overflow: Any = "error" if self.overflow is None else self.overflow
        object.__setattr__(self, "overflow", check_choice("overflow", overflow, OVERFLOWS))
        if self.prompt_lookup_num_tokens is not None:
            name = "prompt_lookup_num_tokens"
            object.__setattr__(self, name, check_int(name, getattr(self, name), 0, MOST_GUESSES))
        if not isinstance(self.sampling, SamplingParams):
            raise InvalidParameterError(
                f"must be SamplingParams, not {self.sampling!r}", "sampling"
            )
        if self.output is not None:
            self._refuse_beside(self.output.argument)

    def _refuse_beside(self, form: str) -> None:
        """Refuse what cannot be used together with the form of a text, which the caller calls
        `form`."""
        if self.ignore_eos:
            problem = f"must be False with {form}, which says where the text ends"
            raise InvalidParameterError(problem, "ignore_eos")
        if self.overflow == "shift":  # the form follows from all tokens of the text
            problem = f"must be 'error' or 'truncate' with {form}, not 'shift'"
            raise InvalidParameterError(problem, "overflow")

    def _check_adjustments(self) -> None:
        given = 0 if self.min_tokens is None else self.min_tokens
        least = check_int("min_tokens", given, 0, 1 << 31)
        if self.max_tokens is not None and least > self.max_tokens:
            problem = f"must be at most max_tokens={self.max_tokens}, not {least}"
            raise InvalidParameterError(problem, "min_tokens")
        if self.logprobs is not None:
            check_int("logprobs", self.logprobs, 0, MOST_LOGPROBS)
        bias: Any = {} if self.logit_bias is None else self.logit_bias
        if not isinstance(bias, Mapping):
            problem = f"must be a mapping from tokens to numbers, not {bias!r}"
            raise InvalidParameterError(problem, "logit_bias")
        processors: Any = self.logits_processor
        processors = () if processors is None else processors
        listed = [processors] if callable(processors) else processors
        if not isinstance(listed, Sequence) or not all(map(callable, listed)):
            problem = f"must be callable (tokens, logits), or several, not {processors!r}"
            raise InvalidParameterError(problem, "logits_processor")
        object.__setattr__(self, "min_tokens", least)
        if self.stop_token_ids is None:
            object.__setattr__(self, "stop_token_ids", ())
        object.__setattr__(self, "logit_bias", dict(bias))
        object.__setattr__(self, "logits_processor", tuple(listed))

    def ends(self, vocabulary: Vocabulary) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens that end the text: those of the model, unless they are ignored, and those of the
        caller.

        Raises
        ------
        InvalidParameterError
            If one is no token of the vocabulary.
        """
        found = check_token_ids("stop_token_ids", self.stop_token_ids, vocabulary.size)
        return () if self.ignore_eos else vocabulary.eos_ids, tuple(found)

    def adjustments(self, vocabulary: Vocabulary) -> Adjustments:
        """What happens to the logits of this model before `sampling`.

        Raises
        ------
        InvalidParameterError
            If `stop_token_ids` or `logit_bias` have something that is no token of the vocabulary,
            or if `logit_bias` has a value outside its range.
        """
        eos_ids, stop_ids = self.ends(vocabulary)
        bias: dict[int, float] = {}
        for key, value in self.logit_bias.items():
            name = f"logit_bias[{key!r}]"
            number = check_float(name, value, BAN, -BAN)
            token = _token(name, key, vocabulary)
            if token in bias:
                raise InvalidParameterError(f"is token {token}, which has a bias already", name)
            bias[token] = number
        return Adjustments(
            bias=bias,
            min_tokens=self.min_tokens,
            ends=(*eos_ids, *stop_ids),
            processors=self.logits_processor,
            logprobs=self.logprobs,
        )

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
            known = [*names, *SamplingParams.__dataclass_fields__]
            hint = ELSEWHERE.get(unknown[0]) or did_you_mean(unknown[0], known)
            hint = hint or f"the options are {', '.join(known)}"
            raise InvalidParameterError(f"is no option; {hint}", unknown[0])
        if not others:
            return options
        return replace(options, sampling=options.sampling.with_overrides(others))


def _token(name: str, key: int | str, vocabulary: Vocabulary) -> int:
    """The token that a key of `logit_bias` means."""
    if not isinstance(key, str):
        return check_int(f"the key of {name}", key, 0, vocabulary.size - 1)
    ids = vocabulary.tokenize(key, add_special_tokens=False)
    if len(ids) != 1:
        problem = f"must name one token, but {key!r} has {len(ids)}: {ids}; give ids"
        raise InvalidParameterError(problem, name)
    return ids[0]
