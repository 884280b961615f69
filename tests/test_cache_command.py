"""`ryzanstein-llm cache`: what it shows, checks and deletes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packed_file import logits, only_file, read_parts, write_parts
from small_model import write_small_model

import ryzanstein_llm
from ryzanstein_llm.cli import main
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.packed_cache.inventory import inventory
from ryzanstein_llm.text_table import format_bytes


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


def two_checkpoints(tmp_path: Path) -> list[Path]:
    """Both have packed weights in the cache."""
    paths = [write_small_model(tmp_path / name) for name in ("one", "two")]
    for path in paths:
        logits(path, True)
    return paths


def left(cache: Path) -> list[str]:
    """Whose files are still there."""
    return sorted(Path(found.whose).name for found in inventory(cache))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch):
    """Let somebody at a terminal type a line."""

    def type_in(line: bytes) -> None:
        terminal = io.TextIOWrapper(io.BytesIO(line), encoding="ascii")
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)

    return type_in


def test_an_empty_cache(cache: Path, capsys) -> None:
    for action in ([], ["list"], ["verify"], ["clear", "--yes"]):
        assert main(["cache", *action]) == 0
        assert capsys.readouterr().out.startswith(f"{cache}\n  0 files")
    assert not cache.exists()


def test_a_cache_that_is_off(monkeypatch, capsys) -> None:
    monkeypatch.setenv("RYZANSTEIN_CACHE", "off")
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == "off (RYZANSTEIN_CACHE)\n"
    assert main(["cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"directory": None, "files": []}
    assert main(["cache", "clear", "--json", "--yes"]) == 0
    assert json.loads(capsys.readouterr().out) == {"directory": None, "deleted": [], "kept": []}


def test_list_names_the_checkpoint_the_size_and_the_state(path: Path, cache: Path, capsys) -> None:
    assert main(["cache"]) == 0
    first, line, last = capsys.readouterr().out.splitlines()
    assert first == str(cache)
    size = format_bytes(only_file(cache).stat().st_size)
    assert line.split(maxsplit=2) == [*size.split(), f"current     {path}"]
    assert last.split() == ["1", "file,", *size.split()]


def test_states(path: Path, cache: Path) -> None:
    assert states(cache) == states(cache, verify=True) == ["current"]
    os.utime(path / "model.safetensors", ns=(1, 1))
    assert states(cache) == states(cache, verify=True) == ["current"]
    (path / "config.json").write_text("{")
    assert states(cache) == ["stale"]
    shutil.rmtree(path)
    assert states(cache) == ["orphaned"]
    only_file(cache).write_bytes(b"noise")
    assert states(cache) == ["damaged"]
    only_file(cache).unlink()
    (cache / (32 * "a" + ".packed.safetensors")).mkdir()
    assert states(cache) == ["damaged"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"checkpoint_samples": 32 * "0"}, "the checkpoint has changed since it was packed"),
        ({"layouts": "ternary 0, screen 0"}, "packed by another build of this library"),
        (
            {"format": "packed weights 1", "library": "1.0", "checkpoint_samples": 32 * "0"},
            f"packed by version 1.0 of this library, which is now {ryzanstein_llm.__version__}",
        ),
    ],
)
def test_why_a_file_is_stale_is_said_in_plain_words(
    path: Path, cache: Path, capsys, changes: dict[str, str], why: str
) -> None:
    header, data = read_parts(only_file(cache))
    header["__metadata__"] |= changes
    write_parts(only_file(cache), header, data)
    assert main(["cache"]) == 0
    _, line, *said, _ = capsys.readouterr().out.splitlines()
    assert "  stale  " in line
    assert " ".join(" ".join(said).split()) == why


def test_that_a_checkpoint_is_gone_is_said_in_plain_words(path: Path, cache: Path) -> None:
    (path / "config.json").unlink()
    (found,) = inventory(cache)
    assert (found.state, "config.json" in found.why) == ("orphaned", True)
    shutil.rmtree(path)
    (found,) = inventory(cache)
    assert (found.state, found.why) == ("orphaned", "the checkpoint is no longer there")


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
    flip(weights, weights.stat().st_size - 5000)
    (found,) = inventory(cache)
    assert (found.state, "compares all bytes" in found.why) == ("current", True)
    assert states(cache, verify=True) == ["stale"]


def test_what_is_wrong_stands_under_the_file_and_fits_80_columns(
    path: Path, cache: Path, capsys
) -> None:
    (path / "config.json").write_text("{")
    assert main(["cache"]) == 0
    _, line, *why, _ = capsys.readouterr().out.splitlines()
    assert line.endswith(str(path))
    assert why
    for part in why:
        assert part.startswith(" " * 6)
        assert len(part) <= 80 or len(part.split()) == 1
    (found,) = inventory(cache)
    assert " ".join(" ".join(why).split()) == found.why


def test_json_is_one_object(path: Path, cache: Path, capsys) -> None:
    for action in ([], ["list"], ["verify"]):
        assert main(["cache", *action, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        size = only_file(cache).stat().st_size
        assert found == {
            "directory": str(cache),
            "files": [
                {
                    "path": str(only_file(cache)),
                    "nbytes": size,
                    "checkpoint": str(path),
                    "state": "current",
                    "why": "",
                }
            ],
        }


def test_names_choose_files(tmp_path: Path, cache: Path, monkeypatch, capsys) -> None:
    one, two = two_checkpoints(tmp_path)
    monkeypatch.chdir(tmp_path)
    (file,) = (found.path for found in inventory(cache, [str(one)]))
    for name in (
        str(one),
        "one",
        "./one/",
        "*/one",
        "*/on?",
        str(file),
        file.name,
        file.name[:9] + "*",
    ):
        assert main(["cache", "list", name, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["files"]
        assert found["checkpoint"] == str(one), name
    assert main(["cache", "verify", "one", "two"]) == 0
    assert "2 files" in capsys.readouterr().out
    monkeypatch.chdir(one)
    assert not list(inventory(cache, [""]))
    two.rename(tmp_path / "t[w]o")
    assert [found.checkpoint for found in inventory(cache, [str(two)])] == [str(two)]


@pytest.mark.parametrize("action", [["list"], ["verify"], ["clear", "--yes"], ["list", "--json"]])
def test_a_name_that_nothing_has_is_refused(path: Path, cache: Path, capsys, action) -> None:
    assert main(["cache", *action, str(path), "nobody"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"ryzanstein-llm: error: {cache} holds no packed weights called 'nobody'\n"
    assert only_file(cache)


def test_clear_deletes_what_is_its_own(path: Path, cache: Path, capsys) -> None:
    found = only_file(cache)
    (cache / (found.name + ".12ab34cd.partial")).write_bytes(bytes(100))
    (cache / (32 * "b" + ".packed.safetensors.lock")).touch()
    (cache / "somebody.safetensors").write_text("else's")
    assert main(["cache", "clear", "--yes"]) == 0
    directory, first, second, why, sum_, end = capsys.readouterr().out.splitlines()
    assert directory == str(cache)
    assert first.endswith(str(path))
    assert second.split() == ["100", "B", "unfinished", found.name + ".12ab34cd.partial"]
    assert why.strip() == "a process is writing it, or has ended before it was complete"
    assert end == sum_ + " deleted"
    assert sum_.startswith("  2 files, ")
    assert [file.name for file in cache.iterdir()] == ["somebody.safetensors"]


def test_clear_with_a_name_deletes_that_alone(tmp_path: Path, cache: Path, capsys) -> None:
    one, two = two_checkpoints(tmp_path)
    (file,) = (found.path for found in inventory(cache, [str(one)]))
    partial = file.with_name(file.name + ".12ab34cd.partial")
    partial.write_bytes(bytes(100))
    assert main(["cache", "clear", str(one), "-y"]) == 0
    assert str(two) not in capsys.readouterr().out
    assert left(cache) == ["two"]
    assert not partial.exists()


@pytest.mark.parametrize(("line", "goes"), [(b"y\n", True), (b" YES \r\n", True), (b"n\n", False),
    (b"\n", False), (b"", False), (b"yesterday\n", False), (b"\xff\n", False)])  # fmt: skip
def test_clear_asks(path: Path, cache: Path, answer, capsys, line: bytes, goes: bool) -> None:
    answer(line)
    assert main(["cache", "clear"]) == 0
    out, err = capsys.readouterr()
    assert str(path) in out
    assert err == "delete it? [y/N] "
    assert out.endswith("deleted\n")
    assert ("nothing deleted" in out) is not goes
    assert left(cache) == ([] if goes else ["model"])


def test_clear_does_not_ask_where_there_is_nothing(cache: Path, answer, capsys) -> None:
    answer(b"")
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr() == (f"{cache}\n  0 files, 0 B\n", "")


def test_clear_without_a_terminal_needs_to_be_told(
    path: Path, cache: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"y\n")))
    assert main(["cache", "clear"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "not a terminal" in err
    assert "--yes" in err
    assert only_file(cache)


def test_clear_as_json_needs_to_be_told(path: Path, cache: Path, answer, capsys) -> None:
    answer(b"y\n")
    assert main(["cache", "clear", "--json"]) == 2
    assert "--yes" in capsys.readouterr().err
    file = only_file(cache)
    assert main(["cache", "clear", "--json", "--yes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [gone["path"] for gone in found["deleted"]] == [str(file)]
    assert found["kept"] == []
    assert not any(cache.iterdir())


def test_clear_leaves_what_is_being_written(path: Path, cache: Path, capsys) -> None:
    pytest.importorskip("fcntl", reason="locks as POSIX has them")
    from ryzanstein_llm.packed_cache.lock import exclusive

    lock = only_file(cache).with_name(only_file(cache).name + ".lock")
    with exclusive(lock, 0):
        assert main(["cache", "clear", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "being written, so not deleted" in out
    assert out.count("deleted") == 1
    assert only_file(cache)


def test_ctrl_c_at_the_question_deletes_nothing(path: Path, cache: Path) -> None:
    pty = pytest.importorskip("pty", reason="a terminal as POSIX has them")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ryzanstein_llm", "cache", "clear"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    try:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 1000)
        time.sleep(0.1)  # from the question to where it waits
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert os.read(ours, 1000) == b"\r\n"
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert only_file(cache)
