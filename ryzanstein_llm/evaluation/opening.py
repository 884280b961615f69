"""The model that the arguments of lm-eval name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidParameterError
from ..hub import is_repository_name
from ..model import BitNetModel

__all__ = ["open_pretrained"]


def open_pretrained(
    pretrained: BitNetModel | str | os.PathLike[str] | None,
    revision: str | None,
    max_length: int | None,
    options: Mapping[str, Any],
) -> BitNetModel:
    """Open a model, unless it is open already.

    Parameters
    ----------
    pretrained : BitNetModel, path, name of a repository of the hub, or None
        A text is a path if there is something, as on the command line.
    revision : str, optional
    max_length : int, optional
        The context to open it with.
    options : mapping
        Further arguments of `BitNetModel`.

    Raises
    ------
    InvalidParameterError
        If there are options for a model that is open, or a revision for one that is no repository.
    RyzansteinError
        What opening raises.
    """
    if isinstance(pretrained, BitNetModel):
        given = [*options, *([] if revision is None else ["revision"])]
        if given:
            problem = f"is for a model that is to be opened, and {pretrained!r} is open"
            raise InvalidParameterError(problem, given[0])
        return pretrained
    chosen = {"context_length": max_length, **options}
    try:
        return _open(pretrained, revision, chosen)
    except InvalidParameterError as error:
        if error.parameter != "context_length" or "context_length" in options:
            raise
        raise InvalidParameterError(error.problem, "max_length") from None


def _open(
    pretrained: str | os.PathLike[str] | None, revision: str | None, options: Mapping[str, Any]
) -> BitNetModel:
    if (
        isinstance(pretrained, str)
        and not os.path.lexists(pretrained)
        and is_repository_name(pretrained)
    ):
        return BitNetModel.from_pretrained(pretrained, revision=revision, **options)
    if revision is not None:
        problem = "is for a repository of the hub, and the model is not one"
        raise InvalidParameterError(problem, "revision")
    return BitNetModel(pretrained, **options)
