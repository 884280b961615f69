"""What the checkpoint says about its embeddings, and what the caller wants instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.pooling import POOLINGS
from ..errors import InvalidParameterError, UnsupportedModelError
from ..formats import EmbeddingSettings
from ..validation import check_choice

__all__ = ["choose_pooling", "choose_prompt"]

DEFAULT_POOLING = "mean"
# Steps of sentence-transformers that `embed` takes too, by the names of their classes.
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


def choose_pooling(settings: EmbeddingSettings, wanted: Any, path: Path) -> str:
    """A key of POOLINGS: `wanted`, else that of the checkpoint, else the mean.

    Parameters
    ----------
    path : Path
        Of the checkpoint, for messages.

    Raises
    ------
    InvalidParameterError
        If there is no such pooling.
    UnsupportedModelError
        If the checkpoint computes its embeddings in another way.
    """
    if wanted is not None:
        check_choice("pooling", wanted, POOLINGS)
    for module in settings.modules:
        if module not in KNOWN_MODULES:
            raise UnsupportedModelError(
                f"{path}: modules.json: the module {module!r} is not supported, and embeddings "
                "without it would be others"
            )
    if wanted is not None:
        return str(wanted)
    if settings.pooling is not None and settings.pooling not in POOLINGS:
        raise UnsupportedModelError(
            f"{path}: its pooling is {settings.pooling!r}, and only {', '.join(POOLINGS)} are "
            "supported; pooling= takes one of these instead"
        )
    return settings.pooling or DEFAULT_POOLING


def choose_prompt(settings: EmbeddingSettings, wanted: Any, path: Path) -> str:
    """The text that stands in front of each text: the checkpoint's prompt of the name `wanted`,
    else `wanted` itself; if that is None, the checkpoint's default prompt, or "".

    Raises
    ------
    InvalidParameterError
        If `wanted` is no str.
    UnsupportedModelError
        If the tokens of a prompt must not count.
    """
    if wanted is None:
        name = settings.default_prompt
        prompt = "" if name is None else settings.prompts[name]
    elif isinstance(wanted, str):
        prompt = settings.prompts.get(wanted, wanted)
    else:
        problem = f"must be a str or None, not {type(wanted).__name__}"
        raise InvalidParameterError(problem, "prompt")
    if prompt and not settings.include_prompt:
        raise UnsupportedModelError(
            f"{path}: include_prompt is false: leaving the prompt out of the pooling is not "
            "supported"
        )
    return prompt
