"""Small checkpoints written by hand, so that any byte of them can be made wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Header = dict[str, Any]
WriteFile = Callable[..., Path]


def f32_entry(begin: int, count: int) -> Header:
    return {"dtype": "F32", "shape": [count], "data_offsets": [begin, begin + 4 * count]}


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """write_file(header, data, name=..., length=...) -> path of a `.safetensors` file.

    `header` is a dict or raw bytes; `length` overrides the header length that is written.
    """

    def write(
        header: Header | bytes,
        data: bytes = b"",
        *,
        name: str = "model.safetensors",
        length: int | None = None,
    ) -> Path:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / name
        path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
        return path

    return write


@pytest.fixture
def checkpoint_dir(tmp_path: Path, write_file: WriteFile) -> Path:
    """A directory with `config.json` and one file of tensors `a` (F32 [2]) and `b` (F32 [1])."""
    (tmp_path / "config.json").write_text('{"model_type": "bitnet"}')
    write_file({"a": f32_entry(0, 2), "b": f32_entry(8, 1)}, struct.pack("<3f", 1, 2, 3))
    return tmp_path


@pytest.fixture
def sharded_dir(tmp_path: Path, write_file: WriteFile) -> Path:
    """The same tensors in two shards with an index."""
    (tmp_path / "config.json").write_text('{"model_type": "bitnet"}')
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_file({"a": f32_entry(0, 2)}, struct.pack("<2f", 1, 2), name=shards["a"])
    write_file({"b": f32_entry(0, 1)}, struct.pack("<f", 3), name=shards["b"])
    index = {"metadata": {"total_size": 12}, "weight_map": shards}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path
