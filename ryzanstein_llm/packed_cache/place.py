"""Where packed weights are kept."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from ..errors import InvalidParameterError

__all__ = ["LOCK", "SEEN", "SUFFIX", "cache_directory", "cached_path", "is_cache_name"]

SUFFIX = ".packed.safetensors"
LOCK = ".lock"
SEEN = ".seen"
FOLDER = "ryzanstein_llm"
OFF = ("0", "off")

_NAME = re.compile(
    rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}(({re.escape(SEEN)})?(\.[0-9a-f]+\.partial)?|{re.escape(LOCK)})"
)


def cache_directory(choice: bool | str | os.PathLike[str] = True) -> Path | None:
    """The directory for packed weights, which need not exist; None for no cache. The path is
    absolute, unless the user has no home directory.

    Parameters
    ----------
    choice : bool or path
        False: no cache. A path: that directory. True: the user's cache directory, which is
        `$RYZANSTEIN_CACHE` (no cache if that is `0` or `off`), else
        `$XDG_CACHE_HOME/ryzanstein_llm`, else `~/.cache/ryzanstein_llm`; on Windows
        `%LOCALAPPDATA%` takes the place of the last two.

    Raises
    ------
    InvalidParameterError
        If it is neither a bool nor a path.
    """
    if choice is False:
        return None
    if choice is not True:
        usable = isinstance(choice, (str, os.PathLike)) and os.fsdecode(choice)
        if not usable or "\0" in os.fsdecode(choice):
            problem = f"must be True, False or a directory, not {choice!r}"
            raise InvalidParameterError(problem, "packed_cache")
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
    if os.path.isabs(named):  # the XDG specification says to ignore relative paths
        return Path(named)
    # without a home directory this stays "~/.cache", which is not absolute and means no cache
    return Path(os.path.expanduser("~/.cache"))


def cached_path(directory: Path, weights: Path) -> Path:
    """The file in `directory` for the checkpoint whose first weight file is `weights`.

    The name is made from the path of the checkpoint, so that a changed checkpoint replaces its old
    file. A link to the weights is not followed, because in model caches several checkpoints, each
    with its own config.json, may have links to the same file.
    """
    place = os.path.join(os.path.realpath(weights.parent), weights.name)
    digest = hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()
    return directory / (digest + SUFFIX)


def is_cache_name(name: str) -> bool:
    """Whether a file with this name belongs to the cache, including locks, notes and leftovers."""
    return _NAME.fullmatch(name) is not None
