"""Downloads that end too early go on later, and what arrives is what the hub has."""

from __future__ import annotations

import hashlib
import logging

import pytest
from files import NAME, noise

from ryzanstein_llm.errors import HubChecksumError, HubConnectionError
from ryzanstein_llm.hub import Repository, transfer
from ryzanstein_llm.hub.download import download

SIZE = 1_000_000
CONTENT = noise(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fetch(**options):
    return download(Repository.parse(NAME), **options)


def blobs(cache):
    return cache / "models--org--name" / "blobs"


@pytest.fixture
def part(cache):
    """Where the beginning of the file is kept."""
    return blobs(cache) / f"{SHA256}.incomplete"


@pytest.fixture(autouse=True)
def repository(hub):
    hub.add(NAME, {"m.gguf": CONTENT})


def starts(hub):
    """The first byte of each request to where large files are."""
    return [int((r.range or "bytes=0-")[6:-1]) for r in hub.asked("cdn")]


def test_lost_connections_at_random_points(hub, rng, part):
    points = [int(n) for n in rng.integers(0, 400_000, 20)]
    hub.cut = lambda request: points.pop() if points else None
    assert fetch().read_bytes() == CONTENT
    assert not part.exists()
    assert len(starts(hub)) > 2
    assert starts(hub) == sorted(starts(hub))


@pytest.mark.parametrize("point", [1, 65_536, 500_000, SIZE - 1])
def test_what_is_there_when_it_fails_stays_for_the_next_time(hub, part, point):
    hub.cut = lambda request: point if request.range is None else 0
    with pytest.raises(HubConnectionError, match=r"org/name: m\.gguf"):
        fetch()
    assert part.read_bytes() == CONTENT[:point]
    hub.cut = lambda request: None
    hub.requests.clear()
    assert fetch().read_bytes() == CONTENT
    assert starts(hub) == [point]


def test_it_is_given_up_when_nothing_comes(hub):
    hub.cut = lambda request: 0
    with pytest.raises(HubConnectionError, match=r"0 bytes|IncompleteRead|no connection"):
        fetch()
    assert len(starts(hub)) == transfer.PATIENCE


def test_it_is_given_up_when_a_server_without_ranges_always_breaks_off(hub):
    hub.ranges = False
    lengths = iter([3000, 2000, 3000, 2000] * 100)
    hub.cut = lambda request: next(lengths)
    with pytest.raises(HubConnectionError):
        fetch()
    assert len(starts(hub)) <= transfer.PATIENCE + 1


def test_a_server_without_ranges_begins_anew(hub, part):
    write_part(part, CONTENT[:300_000])
    hub.ranges = False
    assert fetch().read_bytes() == CONTENT
    assert starts(hub) == [300_000]  # asked for, but answered from the start


def test_a_changed_etag_begins_anew(hub, part):
    write_part(part, CONTENT[:300_000])
    hub.etags["m.gguf"] = "0" * 64
    hub.add(NAME, {"m.gguf": CONTENT})
    assert fetch().read_bytes() == CONTENT
    assert starts(hub) == [300_000, 0]


def test_new_content_on_the_hub_does_not_mix_with_the_old_beginning(hub, cache):
    hub.cut = lambda request: 400_000 if request.range is None else 0
    with pytest.raises(HubConnectionError):
        fetch()
    hub.cut = lambda request: None
    hub.add(NAME, {"m.gguf": noise(SIZE, 2)})
    hub.requests.clear()
    assert fetch().read_bytes() == noise(SIZE, 2)
    assert starts(hub) == [0]


def test_a_range_that_the_server_does_not_have_begins_anew(hub, part):
    write_part(part, CONTENT[:300_000])
    short = iter([CONTENT[:1000]])
    hub.sent = lambda name, content: next(short, content)
    assert fetch().read_bytes() == CONTENT
    assert starts(hub) == [300_000, 0]


def test_a_beginning_with_all_bytes_is_not_downloaded(hub, part):
    write_part(part, CONTENT)
    assert fetch().read_bytes() == CONTENT
    assert not starts(hub)


@pytest.mark.parametrize("size", [1, 300_000, SIZE, SIZE + 1])
def test_a_damaged_beginning_is_downloaded_anew(hub, part, size, caplog):
    write_part(part, bytes(size))
    with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
        assert fetch().read_bytes() == CONTENT
    assert starts(hub)[-1] == 0
    assert size > SIZE or "damaged" in caplog.text


def test_a_wrong_checksum(hub, part, cache):
    wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    hub.sent = lambda name, content: wrong
    with pytest.raises(HubChecksumError) as caught:
        fetch()
    assert caught.value.file == "org/name: m.gguf"
    assert caught.value.expected == SHA256
    assert caught.value.found == hashlib.sha256(wrong).hexdigest()
    assert not list(blobs(cache).iterdir())


def test_a_wrong_checksum_of_a_small_file(hub):
    """Small files have no SHA-256 on the hub, but the name that git gives their content."""
    hub.add(NAME, {"m.gguf": b"small"})
    hub.sent = lambda name, content: b"smell"
    with pytest.raises(HubChecksumError, match=r"org/name: m\.gguf"):
        fetch()


def test_more_bytes_than_there_are(hub):
    hub.sent = lambda name, content: content + b"more"
    assert fetch().read_bytes() == CONTENT


def test_fewer_bytes_than_there_are(hub):
    hub.sent = lambda name, content: content[:-1]
    with pytest.raises(HubConnectionError, match="999,999 bytes of 1,000,000"):
        fetch()


@pytest.mark.parametrize("after", [1, 400_000])
def test_ctrl_c_leaves_what_is_there(hub, part, after):
    def interrupt(done, total, what):
        if done >= after:
            raise KeyboardInterrupt

    hub.pause = 0.005  # else all of it may come at once
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=interrupt)
    length = part.stat().st_size
    assert after <= length < SIZE
    hub.requests.clear()
    assert fetch().read_bytes() == CONTENT
    assert starts(hub) == [length]


def test_a_blob_that_was_cut_short_is_downloaded_again(hub):
    path = fetch()
    path.resolve().write_bytes(CONTENT[:1000])
    assert fetch().read_bytes() == CONTENT


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub):
    fetch()
    assert {r.authorization for r in hub.asked("api") + hub.asked("resolve")} == {
        "Bearer hf_secret"
    }
    assert {r.authorization for r in hub.asked("cdn")} == {None}


def write_part(part, content):
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
