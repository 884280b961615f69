"""Which files a revision of a repository has, with sizes and checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..errors import HubError
from .repository import Repository, is_safe_path
from .requests import get
from .settings import Settings

__all__ = ["Listing", "RemoteFile", "list_repository"]

LARGEST = 64 << 20
"""Bytes of a listing. One of a hundred thousand files has 30 MB."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """
    Attributes
    ----------
    name : str
        With `/` between folders.
    size : int
        Bytes.
    checksum : str
        SHA-256 of a large file (64 hexadecimal digits); the name that git gives the content of
        another one (40). It is the ETag of the hub too, and the file's name in the cache.
    """

    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Listing:
    """
    Attributes
    ----------
    commit : str
        40 hexadecimal digits.
    files : dict[str, RemoteFile]
        By name. Names that would lead out of a folder are left out.
    """

    commit: str
    files: Mapping[str, RemoteFile]


def list_repository(settings: Settings, repository: Repository) -> Listing:
    """Ask the hub.

    Raises
    ------
    HubError
        There is no such repository or revision, it is closed to this user, the hub cannot be
        reached, or its answer is not understood.
    """
    revision = quote(repository.revision, safe="")
    url = f"{settings.endpoint}/api/models/{repository.name}/revision/{revision}?blobs=true"
    with get(url, settings.headers, settings.list_timeout, str(repository)) as answer:
        text = bytearray()
        while block := answer.read(1 << 20):
            text += block
            if len(text) > LARGEST:
                raise HubError(f"{url}: the listing has more than {LARGEST:,} bytes")
    try:
        found = json.loads(text)
        commit, siblings = found["sha"], found["siblings"]
        if _COMMIT.fullmatch(commit) is None:
            raise ValueError(f"sha is {commit!r}")
        files = [_read(entry) for entry in siblings if is_safe_path(entry["rfilename"])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HubError(f"{url}: not a listing of files: {error!r}") from error
    return Listing(commit, {file.name: file for file in files})


def _read(entry: Mapping[str, Any]) -> RemoteFile:
    name, large = entry["rfilename"], entry.get("lfs")
    size = large["size"] if large else entry["size"]
    checksum = large["sha256"] if large else entry["blobId"]
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of {name!r} is {size!r}")
    if _CHECKSUM.fullmatch(checksum) is None:
        raise ValueError(f"the checksum of {name!r} is {checksum!r}")
    return RemoteFile(name, size, checksum)
