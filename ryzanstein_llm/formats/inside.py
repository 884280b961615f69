"""Names of files that a checkpoint's own files give."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = ["is_file", "is_inside"]


def is_inside(name: str) -> bool:
    """Whether a name stays in the directory of the file that gives it, on every operating system.

    Only the name counts: it may be that of a symbolic link that leads out of the directory, as in
    caches of models.
    """
    windows = PureWindowsPath(name)
    return (
        "\0" not in name
        and not PurePosixPath(name).is_absolute()
        and not windows.drive
        and not windows.root
        and ".." not in windows.parts
    )


def is_file(path: Path) -> bool:
    """Whether there is a file of such a name.

    Raises
    ------
    OSError
        No file can have this name, because it is too long. From Python 3.14 on, `Path.is_file` does
        not tell.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
