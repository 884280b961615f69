"""A whole checkpoint: its JSON files, its tensors by name, its identity."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein_llm.errors import CheckpointNotFoundError, ClosedError, FormatError
from ryzanstein_llm.formats import TensorInfo, open_checkpoint

WriteFile = Callable[..., Path]

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def f32_entry(begin: int, count: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [count], "data_offsets": [begin, begin + 4 * count]}


def test_tensors_by_name(checkpoint_dir: Path) -> None:
    with open_checkpoint(checkpoint_dir) as checkpoint:
        assert list(checkpoint.names) == ["a", "b"]
        assert "a" in checkpoint
        assert "c" not in checkpoint
        file = checkpoint_dir / "model.safetensors"
        assert checkpoint.files == [file]
        assert checkpoint.info("a") == TensorInfo("a", "F32", (2,), file, 8)
        tensor = checkpoint.tensor("a", dtypes={"F32"}, shape=(2,))
        assert (tensor.name, tensor.dtype) == ("a", "F32")
        assert tensor.array.tolist() == [1, 2]
        checkpoint.release("a")
        assert tensor.array.tolist() == [1, 2]


def test_shards_read_as_one(sharded_dir: Path) -> None:
    with open_checkpoint(sharded_dir) as checkpoint:
        assert sorted(checkpoint.names) == ["a", "b"]
        assert checkpoint.info("b").file == sharded_dir / SECOND
        assert checkpoint.tensor("b").array.tolist() == [3]


def test_a_tensor_other_than_expected_is_refused(checkpoint_dir: Path) -> None:
    with open_checkpoint(checkpoint_dir) as checkpoint:
        with pytest.raises(FormatError, match=r"model\.safetensors: tensor 'c' is missing"):
            checkpoint.tensor("c")
        with pytest.raises(FormatError, match="'c' is missing"):
            checkpoint.info("c")
        with pytest.raises(FormatError, match="'a': expected dtype BF16 or U8, found F32"):
            checkpoint.tensor("a", dtypes=("U8", "BF16"))
        with pytest.raises(FormatError, match=r"'a': expected shape \(3,\), found \(2,\)"):
            checkpoint.tensor("a", shape=(3,))


def test_after_close_arrays_stay_and_no_more_are_given(checkpoint_dir: Path) -> None:
    checkpoint = open_checkpoint(checkpoint_dir)
    array = checkpoint.tensor("a").array
    checkpoint.close()
    checkpoint.close()
    assert array.tolist() == [1, 2]
    with pytest.raises(ClosedError):
        checkpoint.tensor("b")


def test_shards_that_contradict_the_index_are_refused(
    sharded_dir: Path, write_file: WriteFile
) -> None:
    def open_with(**weight_map: str) -> None:
        (sharded_dir / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        open_checkpoint(sharded_dir)

    with pytest.raises(FormatError, match=r"'c' is listed in .*, but no shard holds it"):
        open_with(a=FIRST, b=SECOND, c=SECOND)
    with pytest.raises(FormatError, match=f"'a' is listed in {SECOND}, but it is in {FIRST}"):
        open_with(a=SECOND, b=FIRST)
    write_file({"a": f32_entry(0, 2)}, struct.pack("<2f", 1, 2), name=SECOND)
    with pytest.raises(FormatError, match=f"{SECOND}: tensor 'a' is also in {FIRST}"):
        open_with(a=FIRST, b=SECOND)


def test_config_json_is_required(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "config.json").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"config\.json"):
        open_checkpoint(checkpoint_dir)


BAD_JSON = {
    "empty": (b"", "not valid JSON"),
    "a list": (b"[]", "expected a JSON object, found a list"),
    "null": (b"null", "expected a JSON object, found null"),
    "a number": (b"1", "expected a JSON object, found a number"),
    "cut off": (b'{"model_type": "bit', "not valid JSON"),
    "not UTF-8": (b'{"model_type": "\xe9"}', "not UTF-8: byte 0xe9 at offset 16"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "nested": (b'{"a":' * 100_000, "nested too deeply"),
    "long number": (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("content", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_malformed_json_files_are_refused(
    checkpoint_dir: Path, name: str, content: bytes, message: str
) -> None:
    (checkpoint_dir / name).write_bytes(content)
    if (name, content) == ("generation_config.json", b""):  # an interrupted download, of no harm
        assert open_checkpoint(checkpoint_dir).generation_config == {}
        return
    with pytest.raises(FormatError, match=message) as raised:
        open_checkpoint(checkpoint_dir)
    assert str(checkpoint_dir / name) in str(raised.value)


def test_a_json_file_of_absurd_size_is_refused(
    checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (checkpoint_dir / "config.json").open("wb") as file:
        file.truncate((64 << 20) + 1)  # sparse: takes no space
    with pytest.raises(FormatError, match="larger than 67108864 bytes"):
        open_checkpoint(checkpoint_dir)


def test_a_byte_order_mark_is_no_fault(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "config.json").write_bytes(b'\xef\xbb\xbf{"model_type": "bitnet"}')
    assert open_checkpoint(checkpoint_dir).config == {"model_type": "bitnet"}


def test_optional_files(checkpoint_dir: Path) -> None:
    checkpoint = open_checkpoint(checkpoint_dir)
    assert checkpoint.generation_config == checkpoint.tokenizer_config == {}
    assert checkpoint.tokenizer_path is None
    assert checkpoint.chat_template is None
    (checkpoint_dir / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    (checkpoint_dir / "tokenizer.json").write_text("{}")
    checkpoint = open_checkpoint(checkpoint_dir / "model.safetensors")
    assert checkpoint.generation_config == {"eos_token_id": [1, 2]}
    assert checkpoint.tokenizer_path == checkpoint_dir / "tokenizer.json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("T", "T"),
        (None, None),
        ([{"name": "tool", "template": "U"}, {"name": "default", "template": "T"}], "T"),
        ([{"name": "tool", "template": "U"}], None),
        ([{"name": []}, 7], None),
    ],
)
def test_chat_template_of_the_tokenizer_config(
    checkpoint_dir: Path, value: Any, expected: str | None
) -> None:
    (checkpoint_dir / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert open_checkpoint(checkpoint_dir).chat_template == expected
    (checkpoint_dir / "chat_template.jinja").write_text("own file: é", encoding="utf-8")
    assert open_checkpoint(checkpoint_dir).chat_template == "own file: é"


@pytest.mark.parametrize("value", [7, {"default": "T"}, [{"name": "default", "template": 7}]])
def test_a_chat_template_of_another_kind_is_refused(checkpoint_dir: Path, value: Any) -> None:
    (checkpoint_dir / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(FormatError, match=r"tokenizer_config\.json: chat_template"):
        open_checkpoint(checkpoint_dir)


def test_digest_tells_files_apart(checkpoint_dir: Path) -> None:
    def digest() -> str:
        return open_checkpoint(checkpoint_dir).sampled_digest()

    weights = checkpoint_dir / "model.safetensors"
    first = digest()
    assert digest() == first
    assert len(first) == 32
    (checkpoint_dir / "config.json").write_text('{"model_type":   "bitnet"}')
    assert digest() == first  # the same settings, spelled otherwise
    (checkpoint_dir / "config.json").write_text('{"model_type": "bitnet", "é": 1}', "utf-8")
    assert digest() != first
    (checkpoint_dir / "config.json").write_text('{"model_type": "bitnet"}')
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert digest() == first  # it is that of the content
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert digest() != first


def test_a_checkpoint_is_changed_when_it_is_replaced_or_written_to(checkpoint_dir: Path) -> None:
    weights = checkpoint_dir / "model.safetensors"
    with open_checkpoint(checkpoint_dir) as checkpoint:
        assert checkpoint.is_unchanged()
        status = weights.stat()
        weights.write_bytes(weights.read_bytes())
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert not checkpoint.is_unchanged()
    with open_checkpoint(checkpoint_dir) as checkpoint:
        weights.unlink()
        assert not checkpoint.is_unchanged()


def test_the_built_in_demo_model() -> None:
    with open_checkpoint(None) as checkpoint:
        assert checkpoint.config["model_type"] == "bitnet"
        assert checkpoint.tokenizer_path is not None
        assert checkpoint.generation_config["eos_token_id"] == 1
        assert len(checkpoint.names) == 110
        for name in checkpoint.names:
            tensor = checkpoint.tensor(name)
            assert not tensor.array.flags.owndata, f"{name} was copied"
            if tensor.dtype == "U8":
                for shift in (0, 2, 4, 6):
                    assert int((tensor.array >> shift & 3).max()) <= 2
            else:
                values = (tensor.array.astype(np.uint32) << 16).view(np.float32)
                assert np.isfinite(values).all()
