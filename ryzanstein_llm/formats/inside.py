"""Names of files that a checkpoint's own files give."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

__all__ = ["is_inside"]


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
