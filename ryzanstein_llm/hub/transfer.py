"""Downloads one file, in several attempts if it has to be."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import HubChecksumError, HubConnectionError, HubSpaceError
from .listing import RemoteFile
from .requests import Answer, get
from .settings import Settings

__all__ = ["transfer"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
PATIENCE = 5
"""Attempts in a row that bring nothing before it is given up."""

PAUSE = 1.0
"""Seconds between two attempts."""

_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(\d+|\*)")


def transfer(
    settings: Settings,
    url: str,
    file: RemoteFile,
    part: Path,
    progress: Callable[[int], None],
    subject: str,
) -> None:
    """Bring all of a file to `part`, which may hold its beginning already, and check it.

    Parameters
    ----------
    progress
        Called with the number of bytes that are there.
    subject
        What messages call the file.

    Raises
    ------
    HubConnectionError
        Several attempts in a row brought nothing. What is there stays.
    HubChecksumError
        All bytes are there, and they are not those of the file. They were deleted.
    HubSpaceError
        The disk is full. What is there stays.
    HubError
        The hub refuses.
    """
    fresh = not part.exists()
    while True:
        found = _attempts(settings, url, file, part, progress, subject)
        if found == file.checksum:
            return
        part.unlink()
        if fresh:
            raise HubChecksumError(subject, file.checksum, found)
        # The beginning may have been somebody else's, or damaged by a loss of power.
        log.warning("%s: what an earlier download left was damaged; downloading anew", subject)
        fresh = True


def _attempts(
    settings: Settings,
    url: str,
    file: RemoteFile,
    part: Path,
    progress: Callable[[int], None],
    subject: str,
) -> str:
    """The checksum of `part` when it has all bytes."""
    # No buffer, so that what has arrived survives the end of the process.
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "r+b", buffering=0) as stream:
        content = _Content(stream, file, progress)
        content.read_beginning()
        failures, most = 0, content.length
        while content.length < file.size:
            try:
                _attempt(settings, url, file, content, subject)
            except HubConnectionError as error:
                failures = 1 if content.length > most else failures + 1
                most = max(most, content.length)
                if failures >= PATIENCE:
                    raise
                log.info("%s; trying again", error)
                time.sleep(PAUSE)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                free = shutil.disk_usage(part.parent).free
                needed = file.size - content.length
                raise HubSpaceError(str(part.parent), needed, free) from error
        os.fsync(descriptor)
        return content.checksum()


def _attempt(
    settings: Settings, url: str, file: RemoteFile, content: _Content, subject: str
) -> None:
    headers = dict(settings.headers)
    if content.length:
        headers["Range"] = f"bytes={content.length}-"
    with get(url, headers, settings.download_timeout, subject) as answer:
        if content.length and not _continues(answer, file, content.length):
            log.info("%s: cannot go on from byte %d; beginning anew", subject, content.length)
            content.begin_anew()
            if answer.status != 200:
                return
        while content.length < file.size and (block := answer.read(BLOCK)):
            content.append(block[: file.size - content.length])
    if content.length < file.size:
        problem = f"{subject}: the hub sent {content.length:,} bytes of {file.size:,}"
        raise HubConnectionError(problem)


def _continues(answer: Answer, file: RemoteFile, length: int) -> bool:
    """Whether the server sends what comes after `length` bytes of this content."""
    sent = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    return (
        answer.status == 206
        and sent is not None
        and int(sent[1]) == length
        and sent[2] in ("*", str(file.size))
        and answer.etag in (None, file.checksum)
    )


class _Content:
    """The bytes of a file that are there, with their checksum so far."""

    def __init__(self, stream: BinaryIO, file: RemoteFile, progress: Callable[[int], None]) -> None:
        self._stream, self._file, self._progress = stream, file, progress
        self.length = 0
        self._hash = self._new_hash()

    def read_beginning(self) -> None:
        if os.fstat(self._stream.fileno()).st_size > self._file.size:
            self._stream.truncate(0)
        while block := self._stream.read(BLOCK):
            self._count(block)

    def begin_anew(self) -> None:
        self._stream.seek(0)
        self._stream.truncate(0)
        self.length, self._hash = 0, self._new_hash()
        self._progress(0)

    def append(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:  # a write without buffer may stop half way
            written = self._stream.write(rest)
            self._count(rest[:written])
            rest = rest[written:]

    def checksum(self) -> str:
        return self._hash.hexdigest()

    def _count(self, block: bytes | memoryview) -> None:
        self._hash.update(block)
        self.length += len(block)
        self._progress(self.length)

    def _new_hash(self) -> hashlib._Hash:
        if len(self._file.checksum) == 64:
            return hashlib.sha256()
        # what git calls a content
        return hashlib.sha1(f"blob {self._file.size}\0".encode("ascii"), usedforsecurity=False)
