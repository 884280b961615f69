"""Arguments of completions: names, defaults and meanings are those of llama-cpp-python 0.3.36."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ..errors import InvalidParameterError, UnsupportedFeatureError
from ..errors.suggestion import did_you_mean
from ..sampling import SamplingParams
from ..validation import check_bool, check_int

__all__ = ["ChatCompletionArguments", "CompletionArguments", "Settings", "read_settings"]

MOST_LOGPROBS = 20
"""Alternatives that OpenAI's chat API has for a token."""


class Arguments(TypedDict, total=False):
    """What both kinds of completions have."""

    model: str | None
    stream_options: Mapping[str, Any] | None
    user: str | None
    n: int | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    logit_bias: Mapping[Any, float] | None
    logits_processor: Any
    grammar: Any
    tfs_z: float | None
    mirostat_mode: int | None
    mirostat_tau: float | None
    mirostat_eta: float | None


class CompletionArguments(Arguments, total=False):
    """Arguments of `create_completion`, which documents them."""

    echo: bool | None
    logprobs: int | None
    suffix: str | None
    stopping_criteria: Any


class ChatCompletionArguments(Arguments, total=False):
    """Arguments of `create_chat_completion`, which documents them."""

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    logprobs: bool | None
    top_logprobs: int | None
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    functions: Sequence[Mapping[str, Any]] | None
    function_call: str | Mapping[str, Any] | None


REFUSED = {
    "suffix": "filling in a text before a suffix: no model that this version runs was trained for "
    "it",
    "stopping_criteria": "stopping_criteria: pass stop=, or end a stream with close()",
    "functions": 'functions: pass tools=[{"type": "function", "function": …}]',
    "function_call": "function_call: pass tools= and tool_choice=",
}
"""Arguments that have to be None, and what to do instead."""

SWITCHED_OFF = {"tfs_z": 1.0, "mirostat_mode": 0}
"""Samplers that this version does not have, and the values that mean that they are not used."""

SAMPLING = {"top_p": 0.95, "min_p": 0.05, "top_k": 40}
"""Defaults of llama-cpp-python that differ from those of SamplingParams, beside the temperature."""

SAMPLING_NAMES = (*SAMPLING, "temperature", "typical_p", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class Settings:
    """Checked arguments.

    Attributes
    ----------
    options : dict
        Keyword arguments of `generate` or `chat`.
    model : str or None
        The name that the caller gives the model.
    echo, include_usage : bool
    """

    options: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    echo: bool = False
    include_usage: bool = False


def read_settings(
    arguments: Mapping[str, Any], *, chat: bool, stream: bool, temperature: float
) -> Settings:
    """Check arguments. None means the default of an argument.

    Parameters
    ----------
    arguments : mapping
        Those of `create_chat_completion` if `chat`, else of `create_completion`.
    stream : bool
        Whether the completion comes in chunks.
    temperature : float
        The default.

    Raises
    ------
    InvalidParameterError
        If one is unknown or outside its range.
    UnsupportedFeatureError
        If this version cannot do what it asks for.
    """
    method = "create_chat_completion" if chat else "create_completion"
    known = (ChatCompletionArguments if chat else CompletionArguments).__annotations__
    for name in arguments:
        if name not in known:
            hint = did_you_mean(name, known) or f"they are {', '.join(known)}"
            raise InvalidParameterError(f"is no argument of {method}; {hint}", name)
    given = {name: value for name, value in arguments.items() if value is not None}
    _refuse_what_is_missing(given)
    given.setdefault("temperature", temperature)
    options: dict[str, Any] = {
        "max_tokens": _max_tokens(arguments, default=None if chat else 16),
        "sampling": _sampling(given),
        "stop": given.get("stop"),
        **_passed_on(given),
    }
    logprobs = _logprobs(given, chat=chat)
    if logprobs is not None and stream:
        raise UnsupportedFeatureError("logprobs with stream=True: ask for the whole completion")
    if logprobs is not None:
        options["logprobs"] = logprobs
    echo = check_bool("echo", given.get("echo", False))
    if echo and logprobs is not None:
        raise UnsupportedFeatureError("logprobs of the prompt (echo=True): leave one of both out")
    model = given.get("model")
    if not isinstance(model, (str, type(None))):
        raise InvalidParameterError(f"must be a str, not {model!r}", "model")
    usage = _include_usage(given.get("stream_options"), stream=stream)
    return Settings(options, model, echo, usage)


def _refuse_what_is_missing(given: Mapping[str, Any]) -> None:
    for name, instead in REFUSED.items():
        if name in given:
            raise UnsupportedFeatureError(instead)
    for name, off in SWITCHED_OFF.items():
        if given.get(name, off) != off:
            raise UnsupportedFeatureError(
                f"{name}={given[name]!r}: this version does not have that sampler; pass {off} or "
                "leave it out"
            )
    if check_int("n", given.get("n", 1), 1, 1 << 31) > 1:
        raise UnsupportedFeatureError(f"n={given['n']}: ask {given['n']} times, with other seeds")


def _max_tokens(arguments: Mapping[str, Any], *, default: int | None) -> int | None:
    """None up to the end of the context, which is also what 0 and less mean."""
    wanted = arguments.get("max_tokens", default)
    if wanted is None:
        return None
    count = check_int("max_tokens", wanted, -(1 << 31), 1 << 31)
    return count if count > 0 else None


def _sampling(given: Mapping[str, Any]) -> SamplingParams:
    values = {**SAMPLING, **{name: given[name] for name in SAMPLING_NAMES if name in given}}
    top_k = check_int("top_k", values["top_k"], -(1 << 31), 1 << 31)
    seed = given.get("seed")
    try:
        return SamplingParams(
            **{**values, "top_k": max(top_k, 0)},
            repetition_penalty=given.get("repeat_penalty", 1.0),
            seed=None if seed == -1 else seed,
        )
    except InvalidParameterError as error:
        if error.parameter != "repetition_penalty":
            raise
        raise InvalidParameterError(error.problem, "repeat_penalty") from None


def _passed_on(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.get("logit_bias"):
        found["logit_bias"] = _logit_bias(given["logit_bias"])
    for name in ("logits_processor", "grammar"):
        if name in given:
            found[name] = given[name]
    return found


def _logit_bias(value: Any) -> dict[int, float]:
    """The biases by token id. JSON has ids as texts."""
    if not isinstance(value, Mapping):
        problem = f"must be a mapping from token ids to numbers, not {value!r}"
        raise InvalidParameterError(problem, "logit_bias")
    found = {}
    for key, bias in value.items():
        try:
            found[int(key)] = bias
        except (TypeError, ValueError):
            raise InvalidParameterError(
                f"has a key that is no token id: {key!r}", "logit_bias"
            ) from None
    return found


def _logprobs(given: Mapping[str, Any], *, chat: bool) -> int | None:
    """For how many of the likeliest tokens log probabilities are wanted; None for none at all."""
    if not chat:
        wanted = given.get("logprobs")
        return None if wanted is None else check_int("logprobs", wanted, 0, MOST_LOGPROBS)
    count = check_int("top_logprobs", given.get("top_logprobs", 0), 0, MOST_LOGPROBS)
    if check_bool("logprobs", given.get("logprobs", False)):
        return count
    if count:
        raise InvalidParameterError("needs logprobs=True", "top_logprobs")
    return None


def _include_usage(value: Any, *, stream: bool) -> bool:
    if value is None:
        return False
    if not stream:
        raise InvalidParameterError("needs stream=True", "stream_options")
    if not isinstance(value, Mapping) or set(value) - {"include_usage"}:
        problem = f'must be {{"include_usage": True}} or None, not {value!r}'
        raise InvalidParameterError(problem, "stream_options")
    return check_bool("stream_options['include_usage']", value.get("include_usage", False))
