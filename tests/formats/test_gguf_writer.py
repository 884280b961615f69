"""A written GGUF file is what the format says: two other readers find the same in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_metadata import read_gguf_metadata

from ryzanstein_llm.formats.gguf_file import GgufFile
from ryzanstein_llm.formats.gguf_types import type_named
from ryzanstein_llm.formats.gguf_writer import ALIGNMENT, GgufTensor, write_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "qwen3",
    "a.text": "Größe 😀",
    "a.flag": True,
    "a.small": 7,
    "a.negative": -7,
    "a.large": 1 << 40,
    "a.float": 0.5,
    "a.texts": ["", "x", "ß"],
    "a.numbers": np.array([1, 2, 3], np.int32),
    "a.floats": np.array([0.5, -1.5], np.float32),
}


def tensor(name: str, dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> GgufTensor:
    size = type_named(dtype)[1].size(shape)
    assert size is not None
    data = rng.integers(0, 256, size, dtype=np.uint8)
    return GgufTensor(name, dtype, shape, lambda: [data[:5], data[5:]])


@pytest.fixture
def tensors(rng: np.random.Generator) -> list[GgufTensor]:
    return [
        tensor("token_embd.weight", "BF16", (3, 256), rng),
        tensor("a", "F32", (7,), rng),
        tensor("b", "TQ2_0", (5, 512), rng),
        tensor("c", "I2_S", (3, 128), rng),
        tensor("d", "F16", (1, 3), rng),
    ]


def test_our_reader_finds_the_same(tensors: list[GgufTensor], tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    assert write_gguf(path, METADATA, tensors) == path.stat().st_size
    file = GgufFile(path)
    assert list(file.infos) == [each.name for each in tensors]
    for each in tensors:
        info = file.infos[each.name]
        assert (info.dtype, info.shape, info.nbytes) == (each.dtype, each.shape, each.nbytes)
        written = np.concatenate(list(each.blocks()))
        assert np.array_equal(file.array(each.name).reshape(-1).view(np.uint8), written)


def test_metadata_are_read_back_by_a_reader_of_the_definition(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, METADATA, [])
    found = read_gguf_metadata(path)
    for key, value in METADATA.items():
        assert found[key] == (value.tolist() if isinstance(value, np.ndarray) else value)
    assert path.stat().st_size % ALIGNMENT == 0


def test_the_gguf_package_finds_the_same(tensors: list[GgufTensor], tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")  # extra: peers
    path = tmp_path / "a.gguf"
    known = [each for each in tensors if each.dtype != "I2_S"]  # it has no I2_S
    write_gguf(path, METADATA, known)
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    for key, value in METADATA.items():
        assert fields[key] == (value.tolist() if isinstance(value, np.ndarray) else value)
    assert [found.name for found in reader.tensors] == [each.name for each in known]
    for found, each in zip(reader.tensors, known, strict=True):
        assert found.tensor_type.name == each.dtype
        assert tuple(found.shape[::-1]) == each.shape
        written = np.concatenate(list(each.blocks()))
        assert np.array_equal(found.data.reshape(-1).view(np.uint8), written)


def test_what_does_not_fit_its_shape_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    wrong = GgufTensor("a", "F32", (7,), lambda: [np.zeros(6, np.float32)])
    with pytest.raises(ValueError, match="a: 24 bytes, not 28"):
        write_gguf(tmp_path / "a.gguf", {}, [wrong])
    with pytest.raises(ValueError, match="not a whole number of TQ2_0"):
        _ = GgufTensor("a", "TQ2_0", (1, 100), list).nbytes
    with pytest.raises(TypeError, match=r"a\.b: a dict"):
        write_gguf(tmp_path / "a.gguf", {"a.b": {}}, [])
    assert not list(tmp_path.iterdir())


def test_progress_counts_tensors(tensors: list[GgufTensor], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_gguf(tmp_path / "a", {}, tensors, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(1, 6)]
