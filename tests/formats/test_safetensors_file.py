"""One `.safetensors` file: read as the safetensors library reads it, refused when malformed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from ryzanstein_llm.errors import CheckpointNotFoundError, ClosedError, FormatError
from ryzanstein_llm.formats.safetensors_file import SafetensorsFile

WriteFile = Callable[..., Path]

ONE = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_reads_what_the_safetensors_library_wrote(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "u8": rng.integers(0, 256, (3, 5), np.uint8),
        "i8": rng.integers(-128, 128, (7,), np.int8),
        "f16": rng.standard_normal((2, 3)).astype(np.float16),
        "f32": rng.standard_normal((4,), np.float32),
        "f64": rng.standard_normal((1, 1, 2)),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "np"})
    file = SafetensorsFile(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as other:
        assert set(file.infos) == set(other.keys()) == set(tensors)
        for name, expected in tensors.items():
            found = file.array(name)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape == file.infos[name].shape
            assert file.infos[name].nbytes == expected.nbytes
            assert found.tobytes() == other.get_tensor(name).tobytes()


def test_bfloat16_comes_as_bit_patterns(write_file: WriteFile) -> None:
    path = write_file(entry("BF16", [2], [0, 4]), struct.pack("<2H", 0x3F80, 0xC000))
    array = SafetensorsFile(path).array("w")
    assert array.dtype == np.uint16
    assert array.tolist() == [0x3F80, 0xC000]


def test_arrays_are_read_only_views_of_the_file(write_file: WriteFile) -> None:
    header = json.dumps(ONE).encode()
    path = write_file(header + b" " * (-len(header) % 8), struct.pack("<2f", 1, 2))
    array = SafetensorsFile(path).array("w")
    assert not array.flags.owndata
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_misaligned_tensors_are_copied_and_still_read_only(write_file: WriteFile) -> None:
    header = json.dumps(ONE).encode()
    path = write_file(header + b" " * (1 - len(header) % 4 + 4), struct.pack("<2f", 1, 2))
    array = SafetensorsFile(path).array("w")
    assert array.flags.aligned
    assert not array.flags.writeable
    assert array.tolist() == [1, 2]


def test_arrays_outlive_the_file_object(write_file: WriteFile) -> None:
    file = SafetensorsFile(write_file(ONE, struct.pack("<2f", 1, 2)))
    array = file.array("w")
    file.close()
    with pytest.raises(ClosedError, match=r"model\.safetensors"):
        file.array("w")
    del file
    assert array.tolist() == [1, 2]


def test_released_pages_come_back(tmp_path: Path) -> None:
    data = np.arange(1 << 16, dtype=np.float32)
    save_file({"w": data}, tmp_path / "m.safetensors")
    file = SafetensorsFile(tmp_path / "m.safetensors")
    array = file.array("w")
    file.release("w")
    assert np.array_equal(array, data)
    file.close()
    file.release("w")  # nothing left to do


MALFORMED = {
    "not an object": (b"[1, 2]   ", b"", "must start with"),
    "leading space": (b" {}", b"", "must start with"),
    "no JSON": (b"{nonsense}", b"", "not valid JSON"),
    "cut JSON": (json.dumps(ONE).encode()[:-3], b"\0" * 8, "not valid JSON"),
    "deep JSON": (b'{"w":' + b"[" * 100_000, b"", "nested too deeply"),
    "not UTF-8": (b'{"\xff": 1}', b"", "0xff at offset 2"),
    "tensor is no object": ({"w": 7}, b"", "found 7"),
    "no dtype": ({"w": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8, "expected dtype"),
    "unknown dtype": (entry("Q4"), b"\0" * 8, "unknown dtype 'Q4'"),
    "dtype is a list": (entry(["F32"]), b"\0" * 8, "unknown dtype"),
    "negative size": (entry(shape=[-2]), b"\0" * 8, r"shape \[-2\]"),
    "fractional size": (entry(shape=[2.0]), b"\0" * 8, r"shape \[2\.0\]"),
    "boolean size": (entry(shape=[True, 2]), b"\0" * 8, "shape"),
    "size beyond 64 bits": (entry(shape=[1 << 63, 0]), b"\0" * 8, "shape"),
    "too many dimensions": (entry(shape=[1] * 33 + [2]), b"\0" * 8, "shape"),
    "one offset": (entry(offsets=[8]), b"\0" * 8, "two byte offsets"),
    "negative offset": (entry(offsets=[-8, 0]), b"\0" * 8, r"\[-8, 0\]"),
    "reversed offsets": (entry(offsets=[8, 0]), b"\0" * 8, "end before they begin"),
    "outside the file": (entry(offsets=[0, 1 << 40]), b"\0" * 8, r"outside the file.* 8 bytes"),
    "truncated data": (ONE, b"\0" * 7, "truncated"),
    "shape takes more": (entry(shape=[3]), b"\0" * 8, r"\(3,\) takes 12 bytes.* hold 8"),
    "dtype takes less": (entry("F16"), b"\0" * 8, r"F16 of shape \(2,\) takes 4 bytes"),
    "product overflows": (entry(shape=[1 << 62, 1 << 62, 16]), b"\0" * 8, "takes"),
    "gap": (entry(offsets=[8, 16]), b"\0" * 16, "gap after the header"),
    "overlap": (
        ONE | {"v": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        b"\0" * 12,
        r"'v': data_offsets \[4, 12\] overlaps tensor 'w'",
    ),
    "same bytes twice": (ONE | {"v": ONE["w"]}, b"\0" * 8, "overlaps"),
    "bytes left over": (ONE, b"\0" * 9, "9 bytes of tensor data, but the header describes 8"),
    "name given twice": (
        b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"\0",
        "'w' occurs twice",
    ),
    "metadata of wrong kind": (ONE | {"__metadata__": [1]}, b"\0" * 8, "refused by safetensors"),
}


@pytest.mark.parametrize(("header", "data", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_are_refused(
    write_file: WriteFile, header: Any, data: bytes, message: str
) -> None:
    path = write_file(header, data)
    with pytest.raises(FormatError, match=message) as raised:
        SafetensorsFile(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: 0 bytes"),
        (b"\x08\0\0", "truncated: 3 bytes"),
        (struct.pack("<Q", 100) + b"{}", "header is 100 bytes long, the file holds 2"),
        (struct.pack("<Q", 1 << 60) + b"{}", f"header length {1 << 60} is beyond"),
        (b"\xff" * 64, "not a safetensors file"),
        (b"GGUF\x03\0\0\0" + b"\0" * 64, "GGUF"),
        (b"PK\x03\x04" + b"\0" * 64, "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (struct.pack("<Q", 0), "must start with"),
    ],
)
def test_files_that_are_no_safetensors_are_named_as_such(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as raised:
        SafetensorsFile(path)
    assert str(path) in str(raised.value)


def test_every_truncation_of_a_good_file_is_refused(write_file: WriteFile, tmp_path: Path) -> None:
    whole = write_file(ONE, b"\0" * 8).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"cut\.safetensors"):
            SafetensorsFile(cut)


def test_every_single_changed_byte_is_read_or_refused(
    write_file: WriteFile, tmp_path: Path
) -> None:
    """No change of a byte may end in anything but a good file or a `FormatError`."""
    whole = write_file(ONE, b"\0" * 8).read_bytes()
    changed = tmp_path / "changed.safetensors"
    for position in range(len(whole)):
        for value in (0, 0x22, 0x39, 0x7D, 0xFF):
            changed.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                file = SafetensorsFile(changed)
            except FormatError:
                continue
            for name in file.infos:
                file.array(name)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"none\.safetensors"):
        SafetensorsFile(tmp_path / "none.safetensors")


def test_zero_sized_tensors_of_absurd_shape_do_not_crash(write_file: WriteFile) -> None:
    file = SafetensorsFile(write_file(entry(shape=[0, 1 << 62, 1 << 62], offsets=[0, 0])))
    with pytest.raises(FormatError, match="'w'"):
        file.array("w")


def test_types_narrower_than_a_byte_are_refused(write_file: WriteFile) -> None:
    """By the safetensors library if it does not know them yet, else when they are read."""
    path = write_file(entry("F4", [4], [0, 2]), b"\0\0")
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        SafetensorsFile(path).array("w")
