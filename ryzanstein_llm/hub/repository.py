"""Names of repositories as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from ..errors import InvalidParameterError

__all__ = ["Repository", "is_repository_name", "is_safe_path"]

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART})/({_PART})")
_WEIGHTS = (".safetensors", ".gguf")
LONGEST_NAME = 96
"""Characters of org/name; the hub allows no more."""

DEFAULT_REVISION = "main"


@dataclass(frozen=True)
class Repository:
    """One state of a repository, and perhaps one file of it.

    Attributes
    ----------
    name : str
        As `org/name`.
    file : str or None
        A `.gguf` or `.safetensors` file in it, with `/` between folders.
    revision : str
        A branch, a tag, or the hash of a commit.
    """

    name: str
    file: str | None = None
    revision: str = DEFAULT_REVISION

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> Repository:
        """From `org/name` or `org/name:file`.

        Raises
        ------
        InvalidParameterError
            It has another form, or the file is of another kind.
        """
        name, colon, file = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not _is_name(name):
            problem = f"must be a name like org/name or org/name:file.gguf, not {text!r}"
            raise InvalidParameterError(problem, "repository")
        if colon and not (file.endswith(_WEIGHTS) and is_safe_path(file)):
            problem = f"{text!r}: the file must be a .gguf or a .safetensors file of the repository"
            raise InvalidParameterError(problem)
        chosen = DEFAULT_REVISION if revision is None else revision
        if not isinstance(chosen, str) or not is_safe_path(chosen):
            problem = f"must be a branch, a tag or a commit, not {revision!r}"
            raise InvalidParameterError(problem, "revision")
        return cls(name, file if colon else None, chosen)

    def __str__(self) -> str:
        revision = "" if self.revision == DEFAULT_REVISION else f" at {self.revision}"
        return f"{self.name}{revision}"


def is_repository_name(text: str) -> bool:
    """Whether a text has the form `org/name` or `org/name:file`. Something like `models/a.gguf` has
    not: people mean a path by that."""
    name, _, _ = text.partition(":")
    return _is_name(name) and not name.endswith(_WEIGHTS)


def _is_name(name: str) -> bool:
    return (
        len(name) <= LONGEST_NAME
        and _NAME.fullmatch(name) is not None
        and "--" not in name  # the cache writes it for the slash
        and ".." not in name
        and not name.endswith(".git")
    )


def is_safe_path(path: str) -> bool:
    """Whether a relative path stays in its folder on every operating system."""
    windows = PureWindowsPath(path)
    return (
        bool(path)
        and path.isprintable()
        and not PurePosixPath(path).is_absolute()
        and not windows.drive
        and not windows.root
        and ":" not in path
        and "\\" not in path
        and not {"", ".", ".."} & set(path.split("/"))
    )
