"""A file appears when it is complete, and errors name it as the caller did."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ryzanstein_llm import BitNetModel, convert, errors
from ryzanstein_llm.formats import new_file
from ryzanstein_llm.formats.new_file import NewFile, replace_text

DATA = np.arange(10, dtype=np.uint8)

Save = Callable[[Path], object]


def save_file(path: Path) -> None:
    with NewFile(path, users_own=True) as file:
        file.write(DATA)


def save_session(path: Path) -> None:
    with BitNetModel(n_threads=1) as model, model.session() as session:
        session.save(path)


def save_conversation(path: Path) -> None:
    pytest.importorskip("jinja2", reason="needs the extra chat")
    with BitNetModel(n_threads=1) as model:
        model.chat_session(chat_template="{{ messages }}").save(path)


SAVES: list[Save] = [save_file, save_session, save_conversation]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nope/x", "there is no folder nope"),
        ("folder", "is a folder"),
        (".", "is a folder"),
        ("..", "is a folder"),
        ("file/x", "Not a directory|there is no folder file"),
        ("a\0b", "null (byte|character)"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_wrong_place_is_named_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save, name: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / ".x.partial").write_bytes(b"mine")
    with pytest.raises(errors.WriteError, match=problem) as caught:
        save(Path(name))
    assert caught.value.path == name
    assert str(caught.value) == f"{name}: {caught.value.problem}"
    assert isinstance(caught.value, OSError)
    assert {each.name for each in tmp_path.iterdir()} == {"folder", "file", ".x.partial"}


needs_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


@needs_posix
@pytest.mark.parametrize("save", SAVES)
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, save: Save) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    for name in ("old", "new"):  # the second one leads to a file that is not there yet
        link = tmp_path / f"to {name}"
        link.symlink_to(Path("folder", name))
        save(link)
        assert link.is_symlink()
        assert len((folder / name).read_bytes()) > 3
    assert {each.name for each in folder.iterdir()} == {"old", "new"}


@needs_posix
@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o755])
def test_a_file_keeps_its_permissions_whatever_the_umask(
    tmp_path: Path, save: Save, mode: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(mode)
    before = os.umask(0o027)
    try:
        save(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() != b"old"


@needs_posix
@pytest.mark.parametrize("save", SAVES)
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, save: Save) -> None:
    """A test must not take chances with /dev/null, which root can replace."""
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    with pytest.raises(errors.WriteError, match="pipe: is a device or a pipe, not a file"):
        save(pipe)
    with pytest.raises(errors.WriteError, match="loop: "):
        save(loop)
    assert pipe.is_fifo()
    assert loop.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("name", ["x" * 238, "x" * 239, "x" * 255, "ä" * 127])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, save: Save, name: str) -> None:
    save(tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("save", SAVES)
def test_a_file_that_is_protected_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o400)
    with monkeypatch.context() as patch:
        if os.name == "posix" and os.geteuid() == 0:  # who may write everything
            patch.setattr(new_file.os, "access", lambda path, mode: mode != os.W_OK)
        with pytest.raises(errors.WriteError, match="Permission denied"):
            save(path)
    assert path.read_bytes() == b"old"
    path.chmod(0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(errors.WriteError, match="Permission denied") as caught:
            save_file(tmp_path / "x")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.DiskSpaceError),
        (errno.EDQUOT, errors.DiskSpaceError),
        (errno.EIO, errors.WriteError),
        (errno.EMFILE, errors.ResourceLimitError),
    ],
)
def test_whatever_step_fails_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, kind: type[OSError]
) -> None:
    path = tmp_path / "x"
    replace_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "a name that nobody knows")

    with monkeypatch.context() as patch:
        patch.setattr(new_file.os, step, fail)
        with pytest.raises(kind) as caught:
            save_file(path)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{path}: ")
    assert "nobody" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["m" * 250 + ".gguf", "m" * 255])
def test_a_conversion_may_have_a_name_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    convert(None, tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.gguf", "model"])
def test_a_conversion_that_cannot_be_written_names_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(new_file.os, "fsync", full)
        with pytest.raises(errors.DiskSpaceError) as caught:
            convert(None, tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {os.strerror(errno.ENOSPC)}"
    assert not list(tmp_path.iterdir())
