"""Answers of a hub, as the bytes of HTTP that a server would send, and the cache they lead to."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ryzanstein_llm.errors import HubError
from ryzanstein_llm.hub import cache, download, transfer
from ryzanstein_llm.hub.choice import choose
from ryzanstein_llm.hub.listing import RemoteFile, list_repository
from ryzanstein_llm.hub.repository import Repository
from ryzanstein_llm.hub.settings import Settings

from ..models import replace_file, small_model
from ..target import Ready, target

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHECKSUM = "3b38ea2deebd7d2e1d7ad8ecf7f9bb2b0a1d18ae5a4a1b3d1c8e7bd9bb9d5eb1"


class _Connection:
    """A socket to a server that says `answer`, whatever it is asked."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._answer))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@contextmanager
def _server(answer: bytes) -> Iterator[None]:
    def connect(address: tuple[str, int], *_: Any, **__: Any) -> _Connection:
        if address[1] == 443:
            raise ConnectionRefusedError
        return _Connection(answer)

    with mock.patch.object(socket, "create_connection", connect):
        yield


def _settings(folder: Path) -> Settings:
    return Settings("http://hub.invalid", folder, {"Authorization": "Bearer x"}, False, 1.0, 1.0)


def _http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HTTP_WORDS = [
    b"Transfer-Encoding: chunked\r\n", b"Location: http://other.invalid/\r\n", b"Location: http://[\r\n",
    b"Location: http://a:b/\r\n", b"HTTP/1.1 302 Found\r\n", b"HTTP/1.1 206 OK\r\n", b"\r\n\r\n",
    b"HTTP/1.1 404 No\r\n", b"HTTP/1.1 429 Slow\r\nRetry-After: 9", b"X-Error-Code: GatedRepo\r\n",
    b"Content-Range: bytes 2-9/8\r\n", b"X-Linked-Etag: \"a\"\r\n", b"ETag: W/\"b\"\r\n",
    b"9" * 5000,
    b"HTTP/1.1 416 Range\r\n", b"HTTP/1.1 503 Down\r\n", b"Content-Length: 99999999999\r\n", b"\0",
    b"Location: file:///etc/passwd\r\n", b"Location: https://x.invalid/\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"Retry-After: ", b"Content-Encoding: gzip\r\n",
]  # fmt: skip


@target
def hub_listing(folder: Path) -> Ready:
    """The listing of a repository, and which files are chosen from it."""
    files = [
        {"rfilename": "config.json", "size": 2, "blobId": "a" * 40},
        {"rfilename": "model.safetensors", "size": 9,
         "lfs": {"size": 9, "sha256": CHECKSUM, "pointerSize": 1}, "blobId": "b" * 40},
        {"rfilename": "a-00001-of-00002.gguf", "size": 9, "blobId": "c" * 40},
    ]  # fmt: skip
    body = json.dumps({"sha": COMMIT, "siblings": files}).encode()
    settings, repository = _settings(folder), Repository.parse("org/name")

    def read(data: bytes) -> None:
        answer = _http(data) if data.startswith((b"{", b"[")) else data
        with _server(answer):
            listing = list_repository(settings, repository)
        choose(repository, listing.files)

    refused = _http(b"no", "403 Forbidden", "X-Error-Message: why", "X-Error-Code: x")
    moved = _http(b"", "302 Found", "Location: http://other.invalid/x")
    return Ready(read, [body, _http(body), refused, moved], HTTP_WORDS)


@target
def hub_file(folder: Path) -> Ready:
    """The bytes of a file, of which the first four are there already."""
    transfer.PAUSE, transfer.PATIENCE = 0.0, 2
    settings = _settings(folder)
    content = b"12345678"
    checksum = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
    file, part = RemoteFile("a.gguf", len(content), checksum), folder / "part"

    def read(data: bytes) -> None:
        replace_file(part, content[:4])
        with _server(data):
            transfer.transfer(settings, "http://hub.invalid/x", file, part, _nobody, "org/name")
        assert part.read_bytes() == content

    ranged = f'Content-Range: bytes 4-7/8|ETag: "{checksum}"'.split("|")
    seeds = [
        _http(content), _http(content[4:], "206 Partial Content", *ranged), _http(b"12345679"),
        _http(b"", "416 Range Not Satisfiable"), _http(b"", "302 Found", "Location: /y"),
    ]  # fmt: skip
    return Ready(read, seeds, HTTP_WORDS)


def _nobody(done: int) -> None:
    pass


@target
def hub_cache(folder: Path) -> Ready:
    """A folder of the cache that somebody else has left: the name of a branch, and the index."""
    settings, repository = _settings(folder), Repository.parse("org/name")
    found = cache.RepositoryCache(settings.cache, repository)
    source = small_model(folder / "model", shards=2, tokenizer=False)
    snapshot = found.snapshot(COMMIT)
    shutil.copytree(source, snapshot)
    index, ref = snapshot / "model.safetensors.index.json", found.root / "refs" / "main"
    ref.parent.mkdir()
    seed = index.read_bytes()

    def read(data: bytes) -> None:
        is_index = data.startswith(b"{")
        replace_file(index, data if is_index else seed)
        replace_file(ref, COMMIT.encode() if is_index else data)
        try:
            download._cached(found, repository)
        finally:
            if is_index:
                exact = Repository.parse("org/name", COMMIT)
                download._is_all_there(found, exact)

    assert HubError
    return Ready(read, [seed, COMMIT.encode(), b"ref: x"], [b"../", b".safetensors", b"\xff"])
