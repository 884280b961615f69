"""Packed weights on disk between processes: one packs, all share; killed writers, limits, locks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from packed_file import logits, only_file
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.formats.new_file import NewFile, remove_leftovers
from ryzanstein_llm.models import matrices
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.packed_cache.lock import exclusive

fcntl = pytest.importorskip("fcntl", reason="locks as POSIX has them")

LIMIT = 120

# Prints the SHA-256 of the logits and where the weights come from; the log goes to stderr.
OPEN = """
import hashlib, logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
sys.path[:0] = [{tests!r}]
from packed_file import logits
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.packed_cache import loading
loading.LEAST_BYTES = 1
path, cache = Path(sys.argv[1]), Path(sys.argv[2])
{before}
from small_model import prompt
model = BitNetModel(path, n_threads=1, packed_cache=cache)
print(hashlib.sha256(model.forward(prompt(20)).tobytes()).hexdigest(), model.packed_file)
{after}
"""


def script(before: str = "", after: str = "") -> str:
    return OPEN.format(tests=str(Path(__file__).parent), before=before, after=after)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def small_models_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_small_model(tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def plain(path: Path) -> np.ndarray:
    return logits(path, False)


def test_of_processes_that_start_together_one_packs(path, cache, tmp_path) -> None:
    gate = "import time\nwhile not Path(sys.argv[3]).exists(): time.sleep(0.001)\n"
    processes = [start(script(gate), path, cache, tmp_path / "go") for _ in range(4)]
    time.sleep(1)  # they import meanwhile; nothing depends on how far they come
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=LIMIT) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    assert sum("packed weights written" in complaint for _, complaint in results) == 1
    alone = start(script(), path, tmp_path / "another").communicate(timeout=LIMIT)[0]
    assert {out.split()[0] for out, _ in results} == {alone.split()[0]}
    assert {out.split()[1] for out, _ in results} == {str(only_file(cache))}


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_processes_share_one_read_only_copy(path, cache) -> None:
    smaps = """
for line in open("/proc/self/smaps"):
    words = line.split()
    if not words[0].endswith(":"):
        ours = line.rstrip().endswith(str(model.packed_file))
        if ours: print("permissions", words[1])
    elif ours and words[2:] == ["kB"]:
        print(words[0][:-1], words[1])
"""
    with BitNetModel(path, n_threads=1, packed_cache=cache) as model:
        model.forward(prompt(20))
        out, complaint = start(script(after=smaps), path, cache).communicate(timeout=LIMIT)
    lines = [line.split() for line in out.splitlines()[1:]]
    assert lines, complaint
    found = dict(lines)
    assert found["permissions"] == "r--s"
    size = only_file(cache).stat().st_size // 1024
    assert int(found["Shared_Clean"]) >= 0.9 * size > 0
    for name in ("Private_Clean", "Private_Dirty", "Shared_Dirty", "Anonymous"):
        assert int(found[name]) == 0


def test_a_killed_writer_leaves_nothing_that_counts(path, cache, plain) -> None:
    kill = """
import os, signal
from ryzanstein_llm.formats import new_file
new_file.BLOCK_BYTES = 4096
real = os.write
def write(descriptor, data):
    real(descriptor, data)
    os.kill(os.getpid(), signal.SIGKILL)
os.write = write
"""
    process = start(script(kill), path, cache)
    process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGKILL
    assert len(list(cache.glob("*.partial"))) == 1
    assert not list(cache.glob("*.packed.safetensors"))
    assert np.array_equal(logits(path, cache), plain)
    assert not list(cache.glob("*.partial"))
    assert only_file(cache)


def test_a_limit_on_the_size_of_files(path, cache, plain) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    process = start(script(limit), path, cache)
    out, complaint = process.communicate(timeout=LIMIT)
    assert (process.returncode, out.split()[1]) == (0, "None")
    assert complaint.count("WARNING") == 1
    assert os.strerror(errno.EFBIG) in complaint
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


def test_ctrl_c_while_writing_leaves_nothing(path, cache, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        BitNetModel(path, packed_cache=cache)
    assert [file.suffix for file in cache.iterdir()] == [".lock"]
    with exclusive(next(cache.glob("*.lock")), 0) as held:
        assert held


# ---- waiting for each other --------------------------------------------------------------------


def lock_path(path: Path, cache: Path) -> Path:
    logits(path, cache)
    found = only_file(cache)
    return found.with_name(found.name + ".lock")


def test_a_process_waits_for_the_one_that_packs(path, cache, plain, tmp_path, monkeypatch) -> None:
    lock = lock_path(path, cache)
    written = only_file(cache)
    shutil.copy(written, tmp_path / "kept")
    written.unlink()

    def publish() -> None:
        waiting.wait(LIMIT)
        os.replace(tmp_path / "kept", written)
        release.set()

    waiting, release = threading.Event(), threading.Event()
    real = time.sleep
    monkeypatch.setattr(
        "ryzanstein_llm.packed_cache.lock.time.sleep", lambda s: (waiting.set(), real(s))
    )
    monkeypatch.delattr(matrices, "pack_source")  # nothing is packed here
    with exclusive(lock, 0) as held:
        assert held
        other = threading.Thread(target=publish)
        other.start()
        opener = threading.Thread(target=lambda: found.append(logits(path, cache)))
        found: list[np.ndarray] = []
        opener.start()
        assert release.wait(LIMIT)
        other.join()
    opener.join(LIMIT)
    assert len(found) == 1
    assert np.array_equal(found[0], plain)


def test_patience_ends(path, cache, plain, monkeypatch) -> None:
    monkeypatch.setattr(loading, "PATIENCE", 0.05)
    lock = lock_path(path, cache)
    only_file(cache).unlink()
    with exclusive(lock, 0) as held, BitNetModel(path, packed_cache=cache) as model:
        assert held
        assert model.packed_file is None
        assert np.array_equal(model.forward(prompt(20)), plain)
    assert not list(cache.glob("*.safetensors"))


def test_a_lock_is_held_by_one(tmp_path) -> None:
    path = tmp_path / "made" / "lock"
    with exclusive(path, 0) as first, exclusive(path, 0.05) as second:
        assert (first, second) == (True, False)
    with exclusive(path, 0) as third:
        assert third


def test_a_deleted_lock_is_no_lock(tmp_path, monkeypatch) -> None:
    """Deleted between opening and locking: the one that others will see is taken instead."""
    path, real, calls = tmp_path / "lock", fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if operation & fcntl.LOCK_EX and not calls:
            calls.append(path.unlink())

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive(path, 0) as first:
        assert first
        assert path.exists()
        with exclusive(path, 0) as second:
            assert not second


def test_where_nothing_can_be_locked_nobody_waits(tmp_path) -> None:
    (tmp_path / "file").touch()
    with exclusive(tmp_path / "file" / "lock", 100) as held:
        assert held


# ---- files that appear when they are complete --------------------------------------------------


def test_a_new_file_appears_at_the_end(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    data = np.random.default_rng(1).integers(0, 256, 5 << 20, np.uint8)
    with NewFile(path) as file:
        for part in np.array_split(data, 7):
            file.write(part)
        file.overwrite_start(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" + data.tobytes()[3:]
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_new_file_that_fails_leaves_the_old(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with NewFile(path) as file:
            file.write(np.zeros(3 << 20, np.uint8))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_other_files_stay(tmp_path) -> None:
    others = {"b.12ab34cd.partial", "a.mkv.partial", "a.b.12ab34cd.partial", "a.1", "a"}
    for name in ("a.12ab34cd.partial", "a.00000000.partial", *others):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a")
    assert {found.name for found in tmp_path.iterdir()} == others
