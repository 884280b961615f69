"""Weights are packed, written and freed one after the other, in several threads. Without threads
the result is the same, and what goes wrong in one of them leaves nothing behind."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from packed_file import logits, only_file, read_parts, write_parts
from small_model import write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import FormatError, UnsupportedModelError
from ryzanstein_llm.formats import new_file
from ryzanstein_llm.formats.new_file import NewFile
from ryzanstein_llm.models import matrices
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.packed_cache.background import Call, WriteBehind


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
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a limit of processes."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)


def test_without_threads_the_same_file_is_written(path, cache, tmp_path, request) -> None:
    expected = logits(path, tmp_path / "with")
    request.getfixturevalue("no_threads")
    assert np.array_equal(logits(path, cache), expected)
    assert read_parts(only_file(cache)) == read_parts(only_file(tmp_path / "with"))


@pytest.mark.parametrize("place", ["first", "later"])
def test_ctrl_c_while_packing_leaves_nothing(path, cache, monkeypatch, place) -> None:
    real, calls = matrices.pack_source, []

    def interrupted(*arguments):
        calls.append(1)
        if place == "first" or len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(matrices, "pack_source", interrupted)
    with pytest.raises(KeyboardInterrupt):
        BitNetModel(path, packed_cache=cache)
    assert [file.suffix for file in cache.iterdir()] == [".lock"]
    monkeypatch.setattr(matrices, "pack_source", real)
    assert np.array_equal(logits(path, cache), logits(path, False))
    assert only_file(cache)


def test_a_damaged_matrix_leaves_nothing(path, cache) -> None:
    weights = path / "model.safetensors"
    header, data = read_parts(weights)
    _, end = header["model.layers.1.mlp.down_proj.weight"]["data_offsets"]
    write_parts(weights, header, data[: end - 1] + b"\xff" + data[end:], align=8)
    with pytest.raises(FormatError, match="code 3"):
        BitNetModel(path, packed_cache=cache)
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("name", "other", "error"),
    [
        ("model.norm.weight", "model.other.weight", FormatError),
        ("model.layers.1.input_layernorm.weight", None, FormatError),
        ("model.layers.1.mlp.down_proj.weight_scale", None, FormatError),
        (None, "model.layers.0.mystery.weight", UnsupportedModelError),
    ],
)
def test_what_else_is_wrong_is_said_before_anything_is_packed(
    path, cache, monkeypatch, name, other, error
) -> None:
    weights = path / "model.safetensors"
    header, data = read_parts(weights)
    if name is None:
        header[other] = {"dtype": "U8", "shape": [64], "data_offsets": [len(data), len(data) + 64]}
        data += bytes(64)
    else:
        header[other or "model.layers.0.mystery.weight"] = header.pop(name)
    write_parts(weights, header, data, align=8)
    monkeypatch.delattr(matrices, "pack_source")
    for directory in (cache, False):
        with pytest.raises(error):
            BitNetModel(path, packed_cache=directory)
    assert not cache.exists()


def test_an_error_of_the_disk_stops_packing(path, cache, monkeypatch, caplog) -> None:
    """It comes from another thread; the model loads all the same, with one warning."""
    monkeypatch.setattr(new_file, "BLOCK_BYTES", 4096)

    def full(descriptor, data):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", full)
    with BitNetModel(path, packed_cache=cache) as model:
        assert model.packed_file is None
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert os.strerror(errno.EIO) in record.getMessage()


# ---- the threads themselves --------------------------------------------------------------------


def parts(count: int, size: int) -> list[np.ndarray]:
    return [np.full(size, index, np.uint8) for index in range(count)]


def test_arrays_are_written_in_order() -> None:
    seen: list[int] = []
    with WriteBehind(lambda data: seen.append(int(data[0])), 100) as behind:
        for part in parts(200, 7):
            behind.write(part)
    assert seen == list(range(200))


def test_only_so_many_bytes_wait() -> None:
    gate, written = threading.Semaphore(0), []

    def slow(data: np.ndarray) -> None:
        gate.acquire()
        written.append(data)

    def feed() -> None:
        with WriteBehind(slow, 30) as behind:
            for part in parts(10, 10):
                behind.write(part)
                given.append(part)

    given: list[np.ndarray] = []
    feeder = threading.Thread(target=feed)
    feeder.start()
    for _ in range(10):
        feeder.join(0.02)
        assert len(given) - len(written) <= 3
        gate.release()
    feeder.join(60)
    assert len(written) == 10


def test_one_array_may_be_larger() -> None:
    sizes: list[int] = []
    with WriteBehind(lambda data: sizes.append(data.size), 30) as behind:
        for size in (10, 100, 20, 300):
            behind.write(np.zeros(size, np.uint8))
    assert sizes == [10, 100, 20, 300]


def test_what_writing_raises_is_raised_by_a_later_call_or_in_the_end() -> None:
    def broken(data: np.ndarray) -> None:
        raise OSError("broken")

    def fill(count: int) -> None:
        with WriteBehind(broken, 10) as behind:
            for part in parts(count, 10):
                behind.write(part)

    for count in (1, 5):
        with pytest.raises(OSError, match="broken"):
            fill(count)


def test_after_an_error_the_rest_is_dropped() -> None:
    begun, gate, written = threading.Event(), threading.Event(), []

    def slow(data: np.ndarray) -> None:
        begun.set()
        gate.wait(60)
        written.append(data)

    def interrupted() -> None:
        with WriteBehind(slow, 100) as behind:
            for part in parts(5, 10):
                behind.write(part)
            begun.wait(60)
            raise KeyboardInterrupt

    before = set(threading.enumerate())  # of which some may be ending
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert len(written) == 1


def test_a_call_gives_its_result_or_its_error() -> None:
    assert Call(lambda: 5).result() == 5
    with pytest.raises(ZeroDivisionError):
        Call(lambda: 1 // 0).result()


def test_a_call_without_threads(no_threads) -> None:
    assert Call(lambda: 5).result() == 5


# ---- the file ----------------------------------------------------------------------------------


def test_whole_blocks_are_written_and_go_to_the_disk_on_the_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(new_file, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(new_file, "UNSYNCED_BYTES", 5000)
    sizes, synced, real = [], [], os.write
    monkeypatch.setattr(new_file, "SYNC_DATA", lambda descriptor: synced.append(sum(sizes)))
    monkeypatch.setattr(os, "write", lambda *call: (sizes.append(len(call[1])), real(*call))[1])
    data = np.random.default_rng(1).integers(0, 256, 20_700, np.uint8)
    with NewFile(tmp_path / "file") as file:
        for part in np.split(data, [1, 10, 1500, 1501, 9000, 20_000]):
            file.write(part)
    assert sizes == [1000] * 20 + [700]
    assert synced == [5000, 10_000, 15_000, 20_000]
    assert (tmp_path / "file").read_bytes() == data.tobytes()


def test_nothing_is_written_after_the_end(tmp_path) -> None:
    """By then the descriptor may be that of another file."""

    def drop() -> None:
        with file:
            raise KeyboardInterrupt

    file = NewFile(tmp_path / "file")
    with pytest.raises(KeyboardInterrupt):
        drop()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        file.write(np.zeros(5 << 20, np.uint8))
    assert not list(tmp_path.iterdir())
