"""Files of a cache are trusted only if no other user can have written them."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["check_own", "open_own"]


def open_own(path: str, flags: int) -> int:
    """An opener for `open`. Raises OSError if another user could have written the file, or if it is
    a link or not a regular file."""
    # Do not follow links, and do not wait for a FIFO.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        check_own(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_own(status: os.stat_result) -> None:
    """Raise OSError unless only this user or root can have written the file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if hasattr(os, "geteuid"):  # POSIX
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, f"owned by user {status.st_uid}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "writable by other users")
