"""Which files a path means."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ryzanstein_llm.errors import CheckpointNotFoundError, FormatError
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.formats.locate import locate

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def rewrite_index(directory: Path, change: Any) -> None:
    index = json.loads((directory / INDEX).read_text())
    change(index)
    (directory / INDEX).write_text(json.dumps(index))


def test_a_file_finds_its_config_beside_it(checkpoint_dir: Path) -> None:
    with open_checkpoint(checkpoint_dir / "model.safetensors") as checkpoint:
        assert checkpoint.path == checkpoint_dir / "model.safetensors"
        assert checkpoint.config == {"model_type": "bitnet"}


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_directory_may_be_given_in_any_spelling(checkpoint_dir: Path, kind: Any) -> None:
    located = locate(kind(checkpoint_dir))
    assert located.path == located.directory == checkpoint_dir
    assert located.files == (checkpoint_dir / "model.safetensors",)


def test_a_relative_path_becomes_absolute(
    checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint_dir)
    assert locate("model.safetensors").path == checkpoint_dir / "model.safetensors"
    assert locate(".").path == checkpoint_dir


def test_a_single_file_of_another_name_will_do(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "model.safetensors").rename(checkpoint_dir / "weights.safetensors")
    assert locate(checkpoint_dir).files == (checkpoint_dir / "weights.safetensors",)


def test_a_file_that_holds_no_weights_is_named(checkpoint_dir: Path) -> None:
    """Before anything is looked for beside it."""
    (checkpoint_dir / "config.json").unlink(missing_ok=True)
    for name, content, kind in [
        ("file.py", b"print(1)\n", "not a safetensors or GGUF file$"),
        ("model.bin", b"PK\x03\x04" + bytes(20), r"but a zip archive \(a PyTorch"),
        ("config.json", b'{"model_type": "bitnet"}', "not a safetensors or GGUF file$"),
        ("short", b"a", "not a safetensors or GGUF file$"),
    ]:
        (checkpoint_dir / name).write_bytes(content)
        with pytest.raises(FormatError, match=kind):
            locate(checkpoint_dir / name)
    (checkpoint_dir / "weights").write_bytes((checkpoint_dir / "model.safetensors").read_bytes())
    assert locate(checkpoint_dir / "weights").files == (checkpoint_dir / "weights",)


def test_several_files_without_an_index_are_ambiguous(sharded_dir: Path) -> None:
    (sharded_dir / INDEX).unlink()
    with pytest.raises(FormatError, match=r"2 \.safetensors files"):
        locate(sharded_dir)


@pytest.mark.parametrize("name", ["", INDEX])
def test_an_index_lists_the_shards(sharded_dir: Path, name: str) -> None:
    located = locate(sharded_dir / name)
    assert located.files == (sharded_dir / FIRST, sharded_dir / SECOND)
    assert located.index == sharded_dir / INDEX
    assert located.tensor_files == {"a": sharded_dir / FIRST, "b": sharded_dir / SECOND}


def test_model_safetensors_counts_before_an_index(sharded_dir: Path) -> None:
    (sharded_dir / "model.safetensors").write_bytes((sharded_dir / FIRST).read_bytes())
    assert locate(sharded_dir).files == (sharded_dir / "model.safetensors",)


def test_one_shard_alone_is_refused(sharded_dir: Path) -> None:
    with pytest.raises(FormatError, match="shard 2 of 2; give the directory"):
        locate(sharded_dir / SECOND)
    (sharded_dir / INDEX).unlink()
    (sharded_dir / FIRST).unlink()
    with pytest.raises(FormatError, match="shard 2 of 2"):
        locate(sharded_dir)


def test_shards_may_be_links_that_leave_the_directory(sharded_dir: Path, tmp_path: Path) -> None:
    """Model caches keep the files elsewhere and link to them."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in (FIRST, SECOND):
        (sharded_dir / name).rename(blobs / name[6:11])
        (sharded_dir / name).symlink_to(blobs / name[6:11])
    with open_checkpoint(sharded_dir) as checkpoint:
        assert sorted(checkpoint.names) == ["a", "b"]


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "/etc/outside.safetensors",
        "..\\outside.safetensors",
        "C:\\outside.safetensors",
        "C:outside.safetensors",
        "\\\\host\\share\\outside.safetensors",
        "nul\0.safetensors",
        "config.json",
        "",
        7,
        None,
    ],
)
def test_an_index_cannot_point_outside_its_directory(sharded_dir: Path, name: Any) -> None:
    rewrite_index(sharded_dir, lambda index: index["weight_map"].update(a=name))
    with pytest.raises(FormatError, match="does not name a file in this directory") as raised:
        locate(sharded_dir)
    assert repr(name) in str(raised.value)
    assert str(sharded_dir / INDEX) in str(raised.value)


def test_a_missing_shard_is_named(sharded_dir: Path) -> None:
    (sharded_dir / SECOND).unlink()
    with pytest.raises(CheckpointNotFoundError, match=SECOND):
        locate(sharded_dir)


def test_a_shard_name_that_no_system_allows_is_refused(sharded_dir: Path) -> None:
    name = "x" * 5000 + ".safetensors"
    rewrite_index(sharded_dir, lambda index: index["weight_map"].update(a=name))
    with pytest.raises(FormatError, match=r"xxx.*too long"):
        locate(sharded_dir)


@pytest.mark.parametrize("value", [None, [], {}, "a", 7])
def test_an_index_without_a_weight_map_is_refused(sharded_dir: Path, value: Any) -> None:
    rewrite_index(sharded_dir, lambda index: index.update(weight_map=value))
    with pytest.raises(FormatError, match="weight_map"):
        locate(sharded_dir)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"weight_map"'])
def test_an_index_that_is_no_json_object_is_refused(sharded_dir: Path, text: str) -> None:
    (sharded_dir / INDEX).write_text(text)
    with pytest.raises(FormatError, match=INDEX):
        locate(sharded_dir)


def test_an_index_that_lists_a_tensor_twice_is_refused(sharded_dir: Path) -> None:
    text = f'{{"weight_map": {{"a": "{FIRST}", "a": "{SECOND}"}}}}'
    (sharded_dir / INDEX).write_text(text)
    with pytest.raises(FormatError, match="'a' occurs twice"):
        locate(sharded_dir)


@pytest.mark.parametrize("path", ["", "no/such/place", "x" * 5000, "nul\0byte", "~nobody"])
def test_a_path_to_nothing_is_not_found(path: str) -> None:
    with pytest.raises(CheckpointNotFoundError):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["microsoft/bitnet-b1.58-2B-4T", "org/name:folder/model.gguf"])
def test_the_name_of_a_repository_is_told_where_to_go(name: str) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"BitNetModel\.from_pretrained") as caught:
        open_checkpoint(name)
    assert f"from_pretrained({name!r})" in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["name", "./org/name", "/org/name", "org/name/more", "org/name.gguf", "org/a.safetensors"],
)
def test_other_paths_are_not_taken_for_repositories(path: str) -> None:
    with pytest.raises(CheckpointNotFoundError) as caught:
        open_checkpoint(path)
    assert "from_pretrained" not in str(caught.value)


def test_an_empty_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no \.safetensors and no \.gguf file"):
        locate(tmp_path)


def test_a_broken_link_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointNotFoundError, match=r"model\.safetensors"):
        locate(tmp_path / "model.safetensors")


def test_something_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(FormatError, match="neither a file nor a directory"):
        locate(tmp_path / "pipe.safetensors")


@pytest.mark.parametrize("path", [7, 1.5, ["model"]])
def test_a_path_of_another_type_is_a_type_error(path: Any) -> None:
    with pytest.raises(TypeError):
        open_checkpoint(path)
