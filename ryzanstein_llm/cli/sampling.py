"""Shared by commands: options that say how tokens are chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from .command import decimal, integer, option

__all__ = ["RANDOM", "SAMPLING", "SEED", "sampling_fields", "sampling_options"]

SEED = 0
RANDOM = "random"


def _seed(text: str) -> int | str:
    if text in (RANDOM, "-1"):  # the latter as in llama.cpp
        return RANDOM
    try:
        number = int(text)
    except ValueError:
        raise click.BadParameter(f"must be an integer or {RANDOM}, not {text!r}") from None
    if not 0 <= number < 1 << 64:
        problem = f"must be in 0..{(1 << 64) - 1}, or {RANDOM} (or -1), not {number}"
        raise click.BadParameter(problem)
    return number


# for each field of SamplingParams: spellings, kind, name of the value, help
SAMPLING: dict[str, tuple[str, Callable[[str], object], str, str]] = {
    "temperature": ("--temperature --temp", decimal, "T", "0 is greedy"),
    "top_k": ("--top-k", integer, "K", "keep the K likeliest tokens"),
    "top_p": ("--top-p", decimal, "P", "keep the likeliest tokens that sum to P"),
    "min_p": ("--min-p", decimal, "P", "drop tokens below P times the likeliest"),
    "typical_p": ("--typical-p", decimal, "P", "keep tokens of typical surprise that sum to P"),
    "repetition_penalty": (
        "--repetition-penalty --repeat-penalty",
        decimal,
        "X",
        "above 1: repeat tokens of prompt and output less",
    ),
    "presence_penalty": (
        "--presence-penalty",
        decimal,
        "X",
        "subtracted from the logits of generated tokens",
    ),
    "frequency_penalty": (
        "--frequency-penalty",
        decimal,
        "X",
        "the same, for each time they were generated",
    ),
    "seed": (
        "-s --seed",
        _seed,
        "S",
        f"a number (default: {SEED}), or {RANDOM}: draw one and show it",
    ),
}


def sampling_options(function: Callable[..., int]) -> Callable[..., int]:
    for field, (spellings, kind, metavar, text) in reversed(SAMPLING.items()):
        function = option(
            *spellings.split(),
            field,
            type=kind,
            default=SEED if field == "seed" else None,
            metavar=metavar,
            section="Sampling",
            help=text,
        )(function)
    return option(
        "--greedy",
        is_flag=True,
        section="Sampling",
        help="always the likeliest token, like --temperature 0",
    )(function)


def sampling_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SamplingParams that the command line sets, including the seed."""
    options = {name: given[name] for name in SAMPLING if given[name] is not None}
    if given["greedy"]:
        options["temperature"] = 0.0
    if given["seed"] == RANDOM:
        options["seed"] = int.from_bytes(os.urandom(4), "little")
    return options
