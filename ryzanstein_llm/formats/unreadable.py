"""What it means that a file cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path

from ..errors import CheckpointNotFoundError, ResourceLimitError

__all__ = ["unreadable"]

# The operating system has too little of something; there is nothing wrong with the file.
SHORTAGES = {
    errno.EMFILE: "this process has too many open files (see `ulimit -n`)",
    errno.ENFILE: "the system has too many open files",
    errno.ENOMEM: "the system has not enough memory, or the process not enough address space",
    errno.EAGAIN: "the system is short of a resource for the moment",
}


def unreadable(
    path: Path, error: OSError | ValueError
) -> CheckpointNotFoundError | ResourceLimitError:
    """The exception to raise when `path` cannot be opened, read or mapped. A ValueError is of a
    name that no file can have."""
    if isinstance(error, ValueError):
        return CheckpointNotFoundError(f"{path}: {error}")
    if error.errno in SHORTAGES:
        return ResourceLimitError(f"{path}: {SHORTAGES[error.errno]}")
    return CheckpointNotFoundError(f"{path}: {error.strerror or error}")
