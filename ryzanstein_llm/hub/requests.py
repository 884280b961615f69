"""Requests to the hub, and what its refusals mean.

They are made with the standard library, because huggingface_hub has changed its HTTP library twice
(requests, httpx, httpx2), and a resumed download needs little: ranges, and redirects that do not
carry the token to another host.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from typing import IO
from urllib.parse import urlsplit

from ..errors import (
    HubAccessError,
    HubConnectionError,
    HubError,
    HubNotFoundError,
    HubRateLimitError,
)

__all__ = ["Answer", "get"]


RANGE_NOT_SATISFIABLE = 416


class Answer:
    """An open response.

    Attributes
    ----------
    status : int
    headers : Message
        Of the last response.
    etag : str or None
        What the hub calls the content: `X-Linked-Etag` of the hub, before a redirect leads to
        where large files are, else the `ETag` of the last response.
    """

    def __init__(self, response: HTTPResponse, linked_etag: str | None, subject: str) -> None:
        self._response, self._subject = response, subject
        self.status: int = response.status
        self.headers: HTTPMessage = response.headers
        self.etag = _plain(linked_etag or response.headers.get("ETag"))

    def read(self, most: int) -> bytes:
        """Bytes as they arrive, `most` at most; empty at the end.

        Raises
        ------
        HubConnectionError
            The connection was lost, or ended before all bytes that were announced.
        """
        with _network(self._subject, self._response.url):
            block = self._response.read1(most)
            if not block and self._response.length:
                raise IncompleteRead(block, self._response.length)
            return block


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes to no other host, and nothing goes from https to http."""

    def __init__(self) -> None:
        self.linked_etag: str | None = None

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
    ) -> HTTPResponse | None:
        """urllib would read all of the body, however many bytes are announced."""
        fp.close()
        answered: HTTPResponse | None = super().http_error_302(req, fp, code, msg, headers)
        return answered

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.linked_etag = self.linked_etag or headers.get("X-Linked-Etag")
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        _ = new.port  # ValueError; the system would take 65537 as 1
        if new.scheme != "https" and new.scheme != old.scheme:
            raise HubError(f"{req.full_url}: refers to {newurl}, which is not https")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request


class _Statuses(urllib.request.HTTPErrorProcessor):
    """A range that the server does not have is an answer, and no error."""

    def http_response(
        self, request: urllib.request.Request, response: HTTPResponse
    ) -> HTTPResponse:
        if response.status == RANGE_NOT_SATISFIABLE:
            return response
        answered: HTTPResponse = super().http_response(request, response)
        return answered

    https_response = http_response


@contextlib.contextmanager
def get(url: str, headers: Mapping[str, str], timeout: float, subject: str) -> Iterator[Answer]:
    """Ask for `url`. `subject` says in messages what was asked for, such as a repository. The
    answer has the status 200, 206 or 416.

    Raises
    ------
    HubError
        Of the class that the refusal means.
    """
    redirects = _Redirects()
    opener = urllib.request.build_opener(
        redirects, _Statuses, urllib.request.HTTPSHandler(context=_certificates())
    )
    request = urllib.request.Request(url, headers={**headers, "Accept-Encoding": "identity"})
    with _network(subject, url):
        try:
            response = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refusal(error, subject) from None
    with response:
        yield Answer(response, redirects.linked_etag, subject)


@contextlib.contextmanager
def _network(subject: str, url: str) -> Iterator[None]:
    try:
        yield
    except HubError:
        raise
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # of an URLError: the error underneath
        what = str(reason) or type(reason).__name__
        problem = f"{subject}: no connection to {urlsplit(url).netloc}: {what}"
        raise HubConnectionError(problem) from error
    except ValueError as error:  # of urllib, such as for a redirect to no address
        raise HubError(f"{subject}: {url}: the answer is not understood: {error}") from error


def _refusal(error: urllib.error.HTTPError, subject: str) -> HubError:
    code = error.headers.get("X-Error-Code") or ""
    said = " ".join((error.headers.get("X-Error-Message") or "").split())[:300]
    why = f" ({said})" if said else ""
    if code == "GatedRepo":
        return HubAccessError(
            f"{subject}: gated; ask for access on its page, and give your token in HF_TOKEN or "
            f"with `hf auth login`{why}"
        )
    if code == "RevisionNotFound":
        return HubNotFoundError(f"{subject}: the repository has no such revision{why}")
    if code == "EntryNotFound":
        return HubNotFoundError(f"{subject}: the repository has no such file{why}")
    if code == "RepoNotFound" or error.code == 404:
        return HubNotFoundError(
            f"{subject}: not on the hub, or private; a private one needs your token in HF_TOKEN or "
            f"with `hf auth login`{why}"
        )
    if error.code in (401, 403):
        # What the hub also answers, to somebody without a token, for a name that does not exist.
        return HubAccessError(
            f"{subject}: refused with HTTP status {error.code}: private, no such name, or a wrong "
            f"token (HF_TOKEN or `hf auth login`){why}"
        )
    if error.code == 429:
        wait = (error.headers.get("Retry-After") or "").strip()
        seconds = int(wait) if wait.isdecimal() and len(wait) < 10 else None
        when = "later" if seconds is None else f"in {seconds} seconds"
        problem = f"{subject}: too many requests (HTTP status 429); try again {when}{why}"
        return HubRateLimitError(problem, seconds)
    if error.code >= 500:
        return HubConnectionError(f"{subject}: the hub failed with HTTP status {error.code}{why}")
    return HubError(f"{subject}: refused with HTTP status {error.code}{why}")


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Those of the system. Some builds of Python know none; there, those of certifi, which comes
    with huggingface_hub."""
    context = ssl.create_default_context()
    places = ssl.get_default_verify_paths()
    if places.cafile is None and places.capath is None:
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def _plain(etag: str | None) -> str | None:
    """Without the marks of a header: `W/"abc"` is `abc`."""
    return None if etag is None else etag.removeprefix("W/").strip('"')
