"""`ryzanstein-llm cache`: what it shows, checks and deletes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from packed_file import logits, only_file, read_parts
from small_model import write_small_model

from ryzanstein_llm.cli import main
from ryzanstein_llm.cli.info import format_bytes
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.packed_cache.inventory import inventory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache directory, not there yet."""
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)
    monkeypatch.setenv("RYZANSTEIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path: Path, cache: Path) -> Path:
    """A checkpoint with packed weights in the cache."""
    path = write_small_model(tmp_path / "model")
    logits(path, True)
    return path


def states(cache: Path, verify: bool = False) -> list[str]:
    return [found.state for found in inventory(cache, verify=verify)]


def flip(path: Path, position: int) -> None:
    """Change a byte and nothing else: neither size nor time."""
    status = path.stat()
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_empty_cache(cache: Path, capsys) -> None:
    for action in ([], ["list"], ["verify"], ["clear"]):
        assert main(["cache", *action]) == 0
        assert capsys.readouterr().out.startswith(f"{cache}\n  0 files")
    assert not cache.exists()


def test_a_cache_that_is_off(monkeypatch, capsys) -> None:
    monkeypatch.setenv("RYZANSTEIN_CACHE", "off")
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == "off (RYZANSTEIN_CACHE)\n"


def test_list_names_the_checkpoint_the_size_and_the_state(path: Path, cache: Path, capsys) -> None:
    assert main(["cache"]) == 0
    first, line, last = capsys.readouterr().out.splitlines()
    assert first == str(cache)
    size = format_bytes(only_file(cache).stat().st_size)
    assert line.split(maxsplit=2) == [*size.split(), f"current   {path}"]
    assert last.split() == ["1", "file,", *size.split()]


def test_states(path: Path, cache: Path) -> None:
    assert states(cache) == states(cache, verify=True) == ["current"]
    os.utime(path / "model.safetensors", ns=(1, 1))
    assert states(cache) == ["stale"]
    (path / "config.json").write_text("{")
    assert states(cache) == ["stale"]
    shutil.rmtree(path)
    assert states(cache) == ["orphaned"]
    only_file(cache).write_bytes(b"noise")
    assert states(cache) == ["damaged"]
    only_file(cache).unlink()
    (cache / (32 * "a" + ".packed.safetensors")).mkdir()
    assert states(cache) == ["damaged"]


def test_verify_finds_a_single_bit(path: Path, cache: Path, capsys) -> None:
    assert main(["cache", "verify"]) == 0
    header, _ = read_parts(only_file(cache))
    begin, _ = next(
        e["data_offsets"] for n, e in header.items() if n.endswith("down_proj.weight:tiles")
    )
    size = only_file(cache).stat().st_size
    data = max(e["data_offsets"][1] for n, e in header.items() if n != "__metadata__")
    flip(only_file(cache), size - data + begin + 5)
    assert states(cache) == ["current"]  # nothing that costs no reading shows it
    assert main(["cache", "verify"]) == 1
    assert "damaged" in capsys.readouterr().out


def test_verify_finds_a_changed_checkpoint(path: Path, cache: Path) -> None:
    weights = path / "model.safetensors"
    flip(weights, weights.stat().st_size - 5)
    assert states(cache) == ["current"]
    assert states(cache, verify=True) == ["stale"]


def test_clear_deletes_what_is_its_own(path: Path, cache: Path, capsys) -> None:
    found = only_file(cache)
    (cache / (found.name + ".12ab34cd.partial")).write_bytes(bytes(100))
    (cache / "somebody.safetensors").write_text("else's")
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith(f"{cache}\n  1 file deleted, ")
    assert [file.name for file in cache.iterdir()] == ["somebody.safetensors"]


def test_clear_leaves_what_is_being_written(path: Path, cache: Path, capsys) -> None:
    pytest.importorskip("fcntl", reason="locks as POSIX has them")
    from ryzanstein_llm.packed_cache.lock import exclusive

    lock = only_file(cache).with_name(only_file(cache).name + ".lock")
    with exclusive(lock, 0):
        assert main(["cache", "clear"]) == 0
    assert "0 files deleted" in capsys.readouterr().out
    assert only_file(cache)
