"""Where packed weights are kept."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from ..errors import InvalidParameterError

__all__ = ["LOCK", "SUFFIX", "cache_directory", "cached_path", "is_cache_name"]

SUFFIX = ".packed.safetensors"
LOCK = ".lock"
FOLDER = "ryzanstein_llm"
OFF = ("0", "off")

_NAME = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}({re.escape(LOCK)}|\.[0-9a-f]+\.partial)?")


def cache_directory(choice: bool | str | os.PathLike[str] = True) -> Path | None:
    """The directory for packed weights, whether it exists or not; None for no cache. It is
    absolute, but for a user who has no home.

    Parameters
    ----------
    choice : bool or path
        False for none; a directory; or True for the user's: `$RYZANSTEIN_CACHE` (none if that is
        `0` or `off`), else `$XDG_CACHE_HOME/ryzanstein_llm`, else `~/.cache/ryzanstein_llm`; on
        Windows `%LOCALAPPDATA%` takes the place of the last two.

    Raises
    ------
    InvalidParameterError
        If it is neither a bool nor a path.
    """
    if choice is False:
        return None
    if choice is not True:
        if not isinstance(choice, (str, os.PathLike)) or not os.fsdecode(choice):
            raise InvalidParameterError(
                f"packed_cache must be True, False or a directory, not {choice!r}"
            )
        return Path(os.path.abspath(os.fsdecode(choice)))
    named = os.environ.get("RYZANSTEIN_CACHE", "")
    if named.lower() in OFF:
        return None
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    return _users_caches() / FOLDER


def _users_caches() -> Path:
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    named = os.environ.get(variable, "")
    if os.path.isabs(named):  # the XDG specification has relative ones ignored
        return Path(named)
    # without a home this stays "~/.cache", which is not absolute, and so no cache
    return Path(os.path.expanduser("~/.cache"))


def cached_path(directory: Path, weights: Path) -> Path:
    """The file in `directory` for the checkpoint whose first weight file is `weights`.

    The name follows from where the checkpoint lies, so that a changed one replaces its old file.
    A link to the weights is not followed: model caches keep several checkpoints' links to one
    place, each with a config.json of its own.
    """
    place = os.path.join(os.path.realpath(weights.parent), weights.name)
    digest = hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()
    return directory / (digest + SUFFIX)


def is_cache_name(name: str) -> bool:
    """Whether a file of this name is one of the cache's, locks and leftovers included."""
    return _NAME.fullmatch(name) is not None
