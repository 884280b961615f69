"""A checked generation request: everything a caller may get wrong is found before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import EmptyPromptError, InvalidParameterError, TokenizerMissingError
from .sampling import SamplingParams
from .stop_strings import StopStrings
from .validation import check_int, check_token_ids

if TYPE_CHECKING:
    from .model import BitNetModel

__all__ = ["Request", "make_request"]

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Request:
    """What `generate` was asked for, with defaults filled in.

    Attributes
    ----------
    first_ids, later_ids : list of int
        The prompt's tokens at the start of a session (with beginning-of-text), and after others.
    max_tokens : int
    stop : list of str
    """

    first_ids: list[int]
    later_ids: list[int]
    max_tokens: int
    stop: list[str]
    ignore_eos: bool
    sampling: SamplingParams

    def new_ids(self, continued: bool) -> list[int]:
        """The prompt's tokens for a session that holds tokens already, or does not."""
        return self.later_ids if continued else self.first_ids


def make_request(
    model: BitNetModel,
    prompt: Prompt,
    max_tokens: int | None,
    stop: str | Sequence[str] | None,
    ignore_eos: bool,
    sampling: SamplingParams | None,
    sampling_options: dict[str, Any],
    ids_suffice: bool,
) -> Request:
    """Check the arguments of `generate` and `stream`.

    Parameters
    ----------
    ids_suffice : bool
        Whether the caller can do without text, so that a checkpoint without tokenizer will do.

    Raises
    ------
    InvalidParameterError, TokenizerMissingError, EmptyPromptError
    """
    limit = (
        model.context_length
        if max_tokens is None
        else check_int("max_tokens", max_tokens, 0, 1 << 31)
    )
    if not isinstance(ignore_eos, (bool, np.bool_)):
        raise InvalidParameterError(f"ignore_eos must be True or False, not {ignore_eos!r}")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence):
        raise InvalidParameterError(f"stop must be a str or a sequence of str, not {stop!r}")
    StopStrings(stops)  # raises for what is not a non-empty str
    if sampling is None:
        sampling = SamplingParams()
    elif not isinstance(sampling, SamplingParams):
        raise InvalidParameterError(f"sampling must be SamplingParams, not {sampling!r}")
    unknown = sorted(set(sampling_options) - set(SamplingParams.__dataclass_fields__))
    if unknown:
        known = ["max_tokens", "stop", "ignore_eos", "sampling"]
        known += SamplingParams.__dataclass_fields__
        raise InvalidParameterError(f"unknown option: {unknown[0]}; there are {', '.join(known)}")
    sampling = sampling.with_overrides(sampling_options)
    if model.tokenizer is None and (stops or not ids_suffice):
        raise TokenizerMissingError(
            f"{model.path}: there is no tokenizer.json, so text cannot be made; "
            "use generate(ids, return_result=True).ids"
        )
    first, later = prompt_ids(model, prompt)
    return Request(first, later, limit, list(stops), bool(ignore_eos), sampling)


def prompt_ids(model: BitNetModel, prompt: Prompt) -> tuple[list[int], list[int]]:
    """A prompt's tokens at the start of a sequence, and later in one. Ids are taken as they are;
    an empty prompt at the start is the beginning-of-text token, or what can stand for it."""
    if isinstance(prompt, str):
        if prompt:
            return model.tokenize(prompt), model.tokenize(prompt, add_special_tokens=False)
        later: list[int] = []
    else:
        later = check_token_ids("prompt", prompt, model.vocab_size, or_text=True)
        if later:
            return later, later
    if model.start_id is None:
        raise EmptyPromptError(
            f"{model.path}: the prompt is empty, and the checkpoint names no BOS, "
            "padding or EOS token to start from"
        )
    return [model.start_id], later
