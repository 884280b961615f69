"""A hub on this machine: it speaks the protocol of huggingface.co as far as downloads need it, and
fails on request.

Large files are kept by a second server with another address, to which the first redirects.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Hub", "Refusal", "Request", "running_hub"]

LARGE = 10_000
"""Bytes from which a file is kept by the second server."""


@dataclass(frozen=True)
class Request:
    """What a client asked for. `file` is "" for listings, else its name."""

    method: str
    kind: str  # "api", "resolve" or "cdn"
    file: str
    range: str | None
    authorization: str | None


@dataclass(frozen=True)
class Refusal:
    """An HTTP status instead of an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """What the servers have, how they misbehave, and what they were asked.

    Attributes
    ----------
    repositories
        Files by repository, commit and name.
    revisions
        The commits of branches and tags, by repository.
    refuse
        Says for each request whether it is refused; None: it is not.
    cut
        Bytes of a file's body after which the connection is closed, for each request; None: all
        are sent.
    ranges
        Whether the second server knows ranges.
    sent
        Changes the bytes that are sent for a file.
    etags
        ETags that are given instead of the right ones, by file.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    refuse: Callable[[Request], Refusal | None] = lambda request: None
    cut: Callable[[Request], int | None] = lambda request: None
    ranges: bool = True
    sent: Callable[[str, bytes], bytes] = lambda name, content: content
    etags: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    cdn: str = ""

    def add(self, name: str, files: dict[str, bytes], revision: str = "main") -> str:
        """A new commit; its hash."""
        digest = hashlib.sha1(name.encode(), usedforsecurity=False)
        for file, content in sorted(files.items()):
            digest.update(file.encode() + content)
        commit = digest.hexdigest()
        self.repositories.setdefault(name, {})[commit] = dict(files)
        self.revisions.setdefault(name, {})[revision] = commit
        return commit

    def asked(self, kind: str, method: str = "GET") -> list[Request]:
        return [r for r in self.requests if r.kind == kind and r.method == method]

    def commit(self, name: str, revision: str) -> str | None:
        if revision in self.repositories.get(name, {}):
            return revision
        return self.revisions.get(name, {}).get(revision)


def checksum(content: bytes) -> str:
    """What the hub calls a content: SHA-256 if it is large, else as git does."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


def entry(name: str, content: bytes, key: str, oid: str) -> dict[str, Any]:
    pointer = hashlib.sha1(b"pointer" + content, usedforsecurity=False).hexdigest()
    if len(content) < LARGE:
        return {key: name, "size": len(content), oid: checksum(content), "type": "file"}
    sha = checksum(content)
    lfs = {"sha256": sha, "oid": sha, "size": len(content), "pointerSize": 134}
    return {key: name, "size": len(content), oid: pointer, "lfs": lfs, "type": "file"}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Two servers on free ports of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(hub, self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    hub.endpoint, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = []
    for server in servers:
        server.daemon_threads = True
        threads.append(threading.Thread(target=server.serve_forever, args=(0.02,)))
        threads[-1].start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def answer(hub: Hub, handler: BaseHTTPRequestHandler) -> None:
    url = urlsplit(handler.path)
    parts = [unquote(part) for part in url.path.split("/")[1:]]
    kind, file = "api", ""
    if parts[0] == "cdn":
        kind, file = "cdn", "/".join(parts[2:])
    elif "resolve" in parts:
        kind, file = "resolve", "/".join(parts[4:])
    request = Request(
        handler.command, kind, file, handler.headers["Range"], handler.headers["Authorization"]
    )
    hub.requests.append(request)
    refusal = hub.refuse(request)
    if refusal is not None:
        send(handler, refusal.status, refusal.headers)
    elif kind == "cdn":
        content = stored(hub, parts[1])
        send_content(hub, handler, request, content, {"ETag": f'"md5-of-{file}"'})
    elif kind == "resolve":
        resolve(hub, handler, request, "/".join(parts[:2]), parts[3])
    else:
        listing(hub, handler, parts, parse_qs(url.query))


def stored(hub: Hub, sha256: str) -> bytes:
    contents = (c for commits in hub.repositories.values() for c in commits.values())
    return next(c for files in contents for c in files.values() if checksum(c) == sha256)


def listing(
    hub: Hub, handler: BaseHTTPRequestHandler, parts: list[str], query: dict[str, list[str]]
) -> None:
    """/api/models/ORG/NAME[/revision/REVISION | /tree/REVISION]"""
    name, what = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision"
    revision = parts[5] if len(parts) > 5 else "main"
    if name not in hub.repositories:
        return send(handler, 401, {"X-Error-Code": "RepoNotFound"})
    commit = hub.commit(name, revision)
    if commit is None:
        return send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
    files = hub.repositories[name][commit]
    if what == "tree":
        found: Any = [entry(file, content, "path", "oid") for file, content in files.items()]
    else:
        siblings = [entry(file, content, "rfilename", "blobId") for file, content in files.items()]
        if not query.get("blobs"):
            siblings = [{"rfilename": sibling["rfilename"]} for sibling in siblings]
        found = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
    send(handler, 200, {"Content-Type": "application/json"}, json.dumps(found).encode())


def resolve(
    hub: Hub, handler: BaseHTTPRequestHandler, request: Request, name: str, revision: str
) -> None:
    commit = hub.commit(name, revision)
    content = hub.repositories[name][commit].get(request.file) if commit else None
    if content is None:
        return send(handler, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit or ""})
    etag = hub.etags.get(request.file, checksum(content))
    headers = {"X-Repo-Commit": commit or "", "Accept-Ranges": "bytes"}
    if len(content) < LARGE:
        return send_content(hub, handler, request, content, {**headers, "ETag": f'"{etag}"'})
    headers["X-Linked-Etag"], headers["X-Linked-Size"] = f'"{etag}"', str(len(content))
    headers["ETag"] = '"of-the-pointer"'
    headers["Location"] = f"{hub.cdn}/cdn/{checksum(content)}/{request.file}?signature=1"
    send(handler, 302, headers)


def send_content(
    hub: Hub,
    handler: BaseHTTPRequestHandler,
    request: Request,
    content: bytes,
    headers: dict[str, str],
) -> None:
    content = hub.sent(request.file, content)
    status, first = 200, 0
    if request.range is not None and hub.ranges:
        first = int(request.range.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            return send(handler, 416, {"Content-Range": f"bytes */{len(content)}"})
        status = 206
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
    cut = hub.cut(request) if request.method == "GET" else None
    send(handler, status, headers, content[first:], cut, hub.pause)


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    body: bytes = b"",
    cut: int | None = None,
    pause: float = 0.0,
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if cut is not None and cut < len(body):
        body, handler.close_connection = body[:cut], True
    try:
        for start in range(0, len(body), 1 << 16):
            handler.wfile.write(body[start : start + (1 << 16)])
            if pause:
                threading.Event().wait(pause)
    except OSError:  # the client has gone
        handler.close_connection = True
