"""What the hub refuses, and how that is said."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import tracemalloc
from contextlib import suppress

import pytest
from hub_files import NAME, demo_files, noise
from hub_server import Refusal

from ryzanstein_llm import errors
from ryzanstein_llm.hub import Repository, listing
from ryzanstein_llm.hub.download import download


def fetch(text=NAME, revision=None, **options):
    return download(Repository.parse(text, revision), **options)


def refuse(hub, kind, status, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    hub.refuse = lambda request: Refusal(status, named) if request.kind == kind else None


def test_a_repository_that_is_not_there(hub):
    with pytest.raises(errors.HubNotFoundError, match=r"org/missing: not on the hub, or private"):
        fetch("org/missing")


def test_a_revision_that_is_not_there(hub):
    hub.add(NAME, demo_files())
    with pytest.raises(errors.HubNotFoundError, match=r"org/name at v9: .* no such revision"):
        fetch(revision="v9")


def test_a_file_that_is_not_there(hub):
    hub.add(NAME, {"a.gguf": noise(20_000), "b.bin": b"pickle"})
    with pytest.raises(errors.HubNotFoundError, match=r"no file 'c\.gguf'; it has a\.gguf$"):
        fetch(f"{NAME}:c.gguf")


@pytest.mark.parametrize("kind", ["api", "resolve", "cdn"])
@pytest.mark.parametrize(
    ("status", "code", "expected", "said"),
    [
        (401, "GatedRepo", errors.HubAccessError, "gated; ask for access on its page"),
        (403, "GatedRepo", errors.HubAccessError, "gated; ask for access on its page"),
        (401, "RepoNotFound", errors.HubNotFoundError, "HF_TOKEN"),
        (401, "", errors.HubAccessError, "status 401"),
        (403, "", errors.HubAccessError, "status 403"),
        (404, "EntryNotFound", errors.HubNotFoundError, "no such file"),
        (404, "", errors.HubNotFoundError, "org/name"),
        (429, "", errors.HubRateLimitError, "too many requests"),
        (500, "", errors.HubConnectionError, "status 500"),
        (504, "", errors.HubConnectionError, "status 504"),
        (418, "", errors.HubError, "status 418"),
    ],
)
def test_refusals(hub, kind, status, code, expected, said):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    refuse(hub, kind, status, X_Error_Code=code, X_Error_Message="the hub's own words")
    with pytest.raises(errors.HubError, match=said) as caught:
        fetch()
    assert type(caught.value) is expected
    assert "org/name" in str(caught.value)
    assert "the hub's own words" in str(caught.value)
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(("header", "seconds"), [("30", 30), ("", None), ("Wed, 21 Oct", None)])
def test_too_many_requests_say_when_to_try_again(hub, header, seconds):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    refuse(hub, "resolve", 429, Retry_After=header)
    with pytest.raises(errors.HubRateLimitError) as caught:
        fetch()
    assert caught.value.retry_after == seconds
    assert ("in 30 seconds" in str(caught.value)) == (seconds == 30)


def test_a_hub_that_recovers(hub):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    failures = [503, 502]
    hub.refuse = lambda request: (
        Refusal(failures.pop()) if request.kind == "cdn" and failures else None
    )
    assert fetch().read_bytes() == noise(20_000)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "nonsense", '{"sha": "x", "siblings": []}', "[" * 100_000, b"\xff",
        '{"sha": 5, "siblings": []}', '{"sha": "%s", "siblings": 5}' % ("a" * 40),
        *(
            json.dumps({"sha": "a" * 40, "siblings": [{"rfilename": "m.gguf", **entry}]})
            for entry in (
                {}, {"size": 5}, {"size": -1, "blobId": "a" * 40}, {"size": 5, "blobId": "../x"},
                {"size": "5", "blobId": "a" * 40}, {"size": 5, "blobId": None},
                {"size": 5, "blobId": "a" * 40, "lfs": {"sha256": "../../x", "size": 5}},
            )
        ),
    ],
)  # fmt: skip
def test_a_listing_that_is_not_understood(hub, monkeypatch, text):
    import hub_server

    def say(hub, handler, parts, query):
        body = text if isinstance(text, bytes) else text.encode()
        hub_server.send(handler, 200, {}, body)

    monkeypatch.setattr(hub_server, "listing", say)
    with pytest.raises(errors.HubError, match="not a listing of files"):
        fetch()


def test_a_hub_that_says_nothing(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(errors.HubConnectionError, match="timed out"):
            fetch()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"?!"])
def test_a_hub_that_hangs_up(hub, monkeypatch, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(errors.HubConnectionError, match="no connection to 127"):
            fetch()
        thread.join()


def test_a_redirect_to_another_scheme(hub):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        refuse(hub, "resolve", 302, Location=place)
        with pytest.raises(errors.HubError, match=r"org/name.*(not https|status 302)|not https"):
            fetch()


@pytest.mark.parametrize("place", ["http://a:b/", "http://[::1/x", "https://127.0.0.1:99999/x"])
def test_a_redirect_to_no_address(hub, place):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    refuse(hub, "resolve", 302, Location=place)
    with pytest.raises(errors.HubError, match=r"org/name.*the answer is not understood") as caught:
        fetch()
    assert type(caught.value) is errors.HubError  # it would be no use to try again
    assert len(hub.asked("resolve")) == 1


def test_a_redirect_to_a_port_that_the_system_would_cut_to_16_bits(hub):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    port = int(hub.cdn.rpartition(":")[2])
    refuse(hub, "resolve", 302, Location=f"http://127.0.0.1:{port + 65536}/cdn/x/m.gguf")
    with pytest.raises(errors.HubError, match="Port out of range"):
        fetch()
    assert not hub.asked("cdn")


def answering(answer):
    """The address of a server that says this once, to whoever asks; and its thread."""
    server = socket.create_server(("127.0.0.1", 0))

    def say():
        connection, _ = server.accept()
        with server, connection:
            connection.recv(10_000)
            connection.sendall(answer)
            with suppress(OSError):
                while answer.endswith(b"endless"):
                    connection.sendall(bytes(1 << 16))

    thread = threading.Thread(target=say)
    thread.start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", thread


SIZES = {
    "more than memory": b"Content-Length: 99999999999999",
    "more than an index": b"Content-Length: " + b"9" * 30,
    "more digits than Python reads": b"Content-Length: " + b"9" * 5000,
    "negative": b"Content-Length: -5",
    "a chunk of more than memory": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-5",
    "none": b"X: y",
}


@pytest.mark.parametrize("end", [b"", b"endless"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "status", ["200 OK", "302 Found", "307 Moved", "403 No", "404 No", "503 Down"]
)
def test_no_more_is_read_of_an_answer_than_is_wanted(hub, monkeypatch, status, size, end):
    """Neither the sizes that it announces are believed, nor is a body read that nobody looks at."""
    hub.add(NAME, {"m.gguf": noise(20_000)})
    monkeypatch.setattr(listing, "LARGEST", 1 << 20)
    head = f"HTTP/1.1 {status}\r\nLocation: {hub.endpoint}/api/models/org/name\r\n".encode()
    address, thread = answering(head + SIZES[size] + b"\r\n\r\nhello" + end)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    tracemalloc.start()
    try:
        with pytest.raises(errors.HubError):
            fetch()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_a_wait_of_thousands_of_digits(hub):
    """Python refuses to read them as a number."""
    hub.refuse = lambda request: Refusal(429, {"Retry-After": "9" * 5000})
    with pytest.raises(errors.HubRateLimitError) as caught:
        fetch()
    assert caught.value.retry_after is None


def test_a_redirect_without_end(hub):
    hub.add(NAME, {"m.gguf": noise(20_000)})
    refuse(hub, "cdn", 302, Location="/cdn/x/m.gguf")
    with pytest.raises(errors.HubError, match="status 302"):
        fetch()


@pytest.mark.parametrize("endpoint", ["", "huggingface.co", "ftp://huggingface.co"])
def test_an_address_of_the_hub_that_cannot_be_one(hub, monkeypatch, endpoint):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(errors.InvalidParameterError, match="HF_ENDPOINT must begin with https://"):
        fetch()


def test_without_huggingface_hub_the_command_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.MissingExtraError, match=r'pip install "ryzanstein_llm\[hub\]"'):
        fetch()


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.HubError("a"), OSError),
        (errors.HubNotFoundError("a"), FileNotFoundError),
        (errors.HubAccessError("a"), PermissionError),
        (errors.HubConnectionError("a"), ConnectionError),
        (errors.HubRateLimitError("a", 5), OSError),
        (errors.HubChoiceError("a", ("b", "c")), ValueError),
        (errors.HubChecksumError("a", "b", "c"), ValueError),
        (errors.HubSpaceError("a", 2, 1), OSError),
    ],
)
def test_errors_can_be_pickled_and_caught_as_what_they_are(error, builtin):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert isinstance(error, builtin)
    assert isinstance(error, errors.HubError)
