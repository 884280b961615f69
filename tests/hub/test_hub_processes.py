"""Processes that die while they download, and processes that download the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from extras import needs_extra
from files import NAME, noise

from ryzanstein_llm.hub import Repository
from ryzanstein_llm.hub.download import download

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 6_000_000
CONTENT = noise(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

FETCH = """
from ryzanstein_llm.hub import Repository
from ryzanstein_llm.hub.download import download
print(download(Repository.parse("org/name")))
"""


@pytest.fixture
def environment(hub, cache):
    """Of processes that use the same hub and the same cache. Each file takes a second."""
    hub.add(NAME, {"m.gguf": CONTENT})
    hub.pause = 0.01
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": path,
    }


def start(environment):
    return subprocess.Popen(
        [sys.executable, "-c", FETCH], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("length", [1, 2_000_000, 4_000_000])
def test_kill_9_leaves_what_is_there_for_the_next_process(hub, cache, environment, length):
    part = cache / "models--org--name" / "blobs" / f"{SHA256}.incomplete"
    with start(environment) as process:
        deadline = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < length:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    left = part.read_bytes()
    assert length <= len(left) < SIZE
    assert CONTENT.startswith(left)
    hub.requests.clear()
    hub.pause = 0.0
    assert download(Repository.parse(NAME)).read_bytes() == CONTENT
    assert [request.range for request in hub.asked("cdn")] == [f"bytes={len(left)}-"]


def test_two_processes_at_once_download_it_once(hub, environment):
    with start(environment) as one, start(environment) as other:
        paths = {process.communicate(timeout=60)[0].strip() for process in (one, other)}
    assert one.returncode == other.returncode == 0
    (path,) = paths
    assert Path(path).read_bytes() == CONTENT
    assert len(hub.asked("cdn")) == 1


def test_we_wait_for_a_download_of_huggingface_hub(hub, cache, environment):
    library = needs_extra("hub", "huggingface_hub")
    theirs = threading.Thread(
        target=library.hf_hub_download,
        args=(NAME, "m.gguf"),
        kwargs={"cache_dir": cache, "endpoint": hub.endpoint},
        daemon=True,
    )
    theirs.start()
    while not hub.asked("cdn"):
        assert theirs.is_alive()
        time.sleep(0.005)
    path = download(Repository.parse(NAME))
    theirs.join(60)
    assert path.read_bytes() == CONTENT
    assert len(hub.asked("cdn")) == 1


def test_where_locks_do_not_work_the_file_is_right_in_the_end(hub, environment, monkeypatch):
    hub.pause = 0.002
    monkeypatch.setattr(
        "ryzanstein_llm.hub.download.file_lock", lambda path: contextlib.nullcontext()
    )
    found = []

    def fetch():
        found.append(download(Repository.parse(NAME)).read_bytes())

    threads = [threading.Thread(target=fetch, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(60)
    assert found == [CONTENT] * 3
