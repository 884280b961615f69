"""One `.gguf` file: read as the format says, refused when malformed."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs_extra
from gguf_writer import Stored, encode_array, encode_gguf, encode_text, f32, qwen3_metadata

from ryzanstein_llm.errors import (
    CheckpointNotFoundError,
    ClosedError,
    FormatError,
    UnsupportedModelError,
)
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.formats.gguf_file import GgufFile
from ryzanstein_llm.formats.gguf_floats import BLOCK_FLOATS
from ryzanstein_llm.models.gguf_names import translate

Write = Callable[..., Path]

TQ2_0, I2_S, TL1, MXFP4, ID_42 = 35, 36, 38, 39, 42


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(metadata, tensors, ...) or write(raw bytes) -> path of a `.gguf` file."""

    def write_file(metadata: Any = (), tensors: Any = (), **options: Any) -> Path:
        raw = metadata if isinstance(metadata, bytes) else encode_gguf(metadata, tensors, **options)
        path = tmp_path / "model.gguf"
        path.write_bytes(raw)
        return path

    return write_file


VALUES = {
    "u8": np.uint8(255),
    "i8": np.int8(-128),
    "u16": np.uint16(65535),
    "i16": np.int16(-32768),
    "u32": np.uint32(4294967295),
    "i32": np.int32(-2147483648),
    "f32": np.float32(0.1),
    "u64": np.uint64(18446744073709551615),
    "i64": np.int64(-9223372036854775808),
    "f64": np.float64(0.1),
}


@pytest.mark.parametrize("version", [2, 3])
def test_values_of_every_type_are_read(write: Write, version: int) -> None:
    plain = {"yes": True, "no": False, "text": "né 😀", "empty": "", "é": 7}
    metadata = GgufFile(write({**VALUES, **plain}, version=version)).metadata
    assert list(metadata) == [*VALUES, *plain]
    assert dict(metadata) == {key: value.item() for key, value in VALUES.items()} | plain
    assert metadata["yes"] is True
    assert type(metadata["u64"]) is int
    assert type(metadata["f32"]) is float


@pytest.mark.parametrize("name", VALUES)
def test_arrays_of_numbers_are_arrays(write: Write, name: str) -> None:
    values = np.array([VALUES[name], 0, 1], VALUES[name].dtype)
    found = GgufFile(write({"a": values, "none": values[:0]})).metadata
    assert found["a"].dtype == values.dtype
    assert found["a"].tobytes() == values.tobytes()
    assert found["none"].shape == (0,)
    assert found["a"] is found["a"]
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 1


def test_arrays_of_texts_and_flags(write: Write) -> None:
    found = GgufFile(write({"t": ["a", "", "né"], "none": [], "f": np.array([True, False])}))
    assert found.metadata["t"] == ["a", "", "né"]
    assert found.metadata["none"] == []
    assert found.metadata["f"].tolist() == [True, False]


def test_files_of_the_gguf_library_are_read_as_it_reads_them(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    gguf = needs_extra("peers", "gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("né")
    writer.add_block_count(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_add_bos_token(False)
    writer.add_uint64("big", 1 << 60)
    writer.add_token_list(["a", "né", ""])
    writer.add_token_scores([0.5, -1.0])
    writer.add_token_types([1, 3, 6])
    stored = {
        "f32": rng.standard_normal((3, 5), np.float32),
        "f16": rng.standard_normal((4, 64)).astype(np.float16),
    }
    for name, values in stored.items():
        writer.add_tensor(name, values)
    for kind in ("Q8_0", "TQ1_0", "TQ2_0", "BF16"):
        raw = gguf.quantize(
            rng.standard_normal((3, 256), np.float32), gguf.GGMLQuantizationType[kind]
        )
        writer.add_tensor(kind, raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    for write_part in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write_part}_to_file")()
    writer.close()

    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        found = ours.metadata[key]
        found = found.tolist() if isinstance(found, np.ndarray) else found
        assert found == field.contents(), key
    assert list(ours.infos) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.infos[tensor.name]
        assert info.dtype == tensor.tensor_type.name
        assert info.shape == tuple(tensor.shape[::-1])
        assert info.nbytes == tensor.n_bytes
        assert ours.array(tensor.name).tobytes() == tensor.data.tobytes()
    for name, values in stored.items():
        assert np.array_equal(ours.array(name), values)


def test_metadata_stay_after_close(write: Write) -> None:
    file = GgufFile(write({"t": ["a", "b"]}, [f32("w", 1)]))
    array = file.array("w")
    file.close()
    file.close()
    assert file.metadata["t"] == ["a", "b"]
    assert array.tolist() == [1]
    with pytest.raises(ClosedError, match=r"model\.gguf"):
        file.array("w")
    file.release("w")  # nothing left to do


def test_long_arrays_are_looked_at_when_asked_for(write: Write) -> None:
    """Opening must not decode 150,000 tokens, so a wrong one is an error of its own."""
    bad_text = struct.pack("<I", 9) + encode_array(["a", "b"])[:-1] + b"\xff"
    bad_flag = struct.pack("<IIQ", 9, 7, 3) + b"\0\1\2"
    metadata = GgufFile(write({"t": bad_text, "f": bad_flag})).metadata
    assert "t" in metadata
    with pytest.raises(FormatError, match=r"metadata 't': item 1 is not UTF-8: byte 0xff"):
        metadata["t"]
    with pytest.raises(FormatError, match=r"metadata 'f': item 2 must be 0 or 1, found 2"):
        metadata["f"]


def test_tensors_have_numpy_order_and_come_in_the_order_of_the_data(write: Write) -> None:
    matrix = np.arange(6, dtype=np.float16).reshape(2, 3)
    bits = np.array([0x3F80, 0xC000], np.uint16)
    tensors = [
        Stored("last", 30, (2,), bits.tobytes(), offset=64),
        Stored("first", 1, (2, 3), matrix.tobytes(), offset=0),
        Stored("scalar", 26, (), struct.pack("<i", -7), offset=32),
    ]
    data = [tensors[1].data, tensors[2].data, tensors[0].data]
    raw = encode_gguf((), tensors)
    header = len(raw) - 96
    path = write(raw[:header] + b"".join(part + bytes(-len(part) % 32) for part in data))
    file = GgufFile(path)
    assert list(file.infos) == ["first", "scalar", "last"]
    assert file.infos["first"].dtype == "F16"
    assert file.infos["first"].shape == (2, 3)
    assert file.infos["first"].nbytes == 12
    assert file.infos["first"].file == path
    assert np.array_equal(file.array("first"), matrix)
    assert file.array("scalar") == -7
    assert file.array("last").tolist() == bits.tolist()
    assert file.header + bytes(-len(file.header) % 32) == raw[:header]


def test_blocks_come_as_the_bytes_of_the_file(write: Write) -> None:
    raw = bytes(range(132))
    file = GgufFile(write((), [Stored("w", TQ2_0, (2, 256), raw)]))
    assert file.infos["w"].dtype == "TQ2_0"
    assert file.infos["w"].shape == (2, 256)
    array = file.array("w")
    assert array.dtype == np.uint8
    assert array.tobytes() == raw
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_arrays_outlive_the_file_object_and_released_pages_come_back(write: Write) -> None:
    values = np.arange(1 << 14, dtype=np.float32)
    file = GgufFile(write((), [Stored("w", 0, values.shape, values.tobytes())]))
    array = file.array("w")
    file.release("w")
    assert np.array_equal(array, values)
    file.close()
    del file
    assert np.array_equal(array, values)


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_other_alignments(write: Write, alignment: int) -> None:
    tensors = [f32("a", 1), f32("b", 2, 3)]
    file = GgufFile(write({"general.alignment": alignment}, tensors, alignment=alignment))
    assert file.array("b").tolist() == [2, 3]


def test_padding_after_the_last_tensor_may_be_missing(write: Write) -> None:
    whole = encode_gguf((), [f32("a", 1), f32("b", 2, 3)])
    assert GgufFile(write(whole[:-24])).array("b").tolist() == [2, 3]


def test_a_file_may_have_no_tensors(write: Write) -> None:
    assert not GgufFile(write({"a": 1})).infos


def blocks(type_id: int, shape: tuple[int, int], nbytes: int, name: str = "w") -> Stored:
    return Stored(name, type_id, shape, bytes(nbytes))


SIZES = {
    # type id: (dtype, shape, bytes); rows and tensors may have bytes besides the blocks
    34: ("TQ1_0", (3, 512), 324),
    35: ("TQ2_0", (3, 512), 396),
    36: ("I2_S", (3, 512), 416),
    41: ("Q1_0", (3, 512), 216),
    43: ("STQ1_0", (3, 512), 252),
    134: ("IQ1_BN", (3, 512), 318),
    135: ("IQ2_BN", (3, 512), 396),
    142: ("PQ2_0", (3, 512), 408),
    143: ("PTQ1_0", (3, 512), 336),
    335: ("IQ2_BN_R4", (3, 512), 396),
    8: ("Q8_0", (3, 512), 1632),
    12: ("Q4_K", (3, 512), 864),
    14: ("Q6_K", (3, 512), 1260),
    3: ("Q4_1", (3, 512), 960),
}


@pytest.mark.parametrize("type_id", SIZES)
def test_sizes_of_types(write: Write, type_id: int) -> None:
    dtype, shape, nbytes = SIZES[type_id]
    after = f32("after", 5)
    file = GgufFile(write((), [blocks(type_id, shape, nbytes), after]))
    assert file.infos["w"].dtype == dtype
    assert file.infos["w"].nbytes == nbytes
    assert file.array("after").tolist() == [5]
    for wrong in (nbytes - 32, nbytes + 32):
        with pytest.raises(FormatError, match=rf"'w': {dtype} of shape .* takes {nbytes} bytes"):
            GgufFile(write((), [blocks(type_id, shape, wrong), after]))


@pytest.mark.parametrize(
    ("nbytes", "dtype"), [(4 * 144, "Q2_0"), (4 * 136, "PQ2_0"), (4 * 84, "STQ1_0")]
)
@pytest.mark.parametrize("last", [True, False])
def test_the_size_tells_which_layout_id_42_means(
    write: Write, nbytes: int, dtype: str, last: bool
) -> None:
    tensors = [blocks(ID_42, (2, 1024), nbytes), *([] if last else [f32("after", 5)])]
    assert GgufFile(write((), tensors)).infos["w"].dtype == dtype


def test_a_tensor_that_could_be_either_follows_the_others_of_the_file(write: Write) -> None:
    """72 and 68 bytes of 256 elements are both 96 with their padding."""
    small = blocks(ID_42, (1, 256), 68, "small")
    with pytest.raises(
        FormatError, match=r"'small': type id 42: .* does not tell .* Q2_0 or PQ2_0"
    ):
        GgufFile(write((), [small, f32("after", 5)]))
    file = GgufFile(write((), [small, blocks(ID_42, (8, 256), 8 * 68, "large")]))
    assert file.infos["small"].dtype == file.infos["large"].dtype == "PQ2_0"
    assert file.infos["small"].nbytes == 68


def test_layouts_of_id_42_that_contradict_each_other_are_refused(write: Write) -> None:
    tensors = [blocks(ID_42, (8, 256), 8 * 72, "a"), blocks(ID_42, (8, 256), 8 * 68, "b")]
    with pytest.raises(FormatError, match=r"'a': type id 42: .* fits none of Q2_0 or PQ2_0"):
        GgufFile(write((), tensors))


def test_id_39_means_another_type_in_files_of_bitnet(write: Write) -> None:
    tensors = [blocks(MXFP4, (4, 64), 4 * 34), f32("after", 5)]
    assert GgufFile(write((), tensors)).infos["w"].dtype == "MXFP4"
    bitnet = {"general.architecture": "bitnet-b1.58"}
    assert GgufFile(write(bitnet, tensors)).infos["w"].dtype == "TL2"
    odd = [blocks(MXFP4, (4, 64), 100), f32("after", 5)]
    assert GgufFile(write((), odd)).infos["w"].dtype == "TL2"
    assert GgufFile(write((), [blocks(TL1, (4, 64), 100), *odd[1:]])).infos["w"].dtype == "TL1"


def array_of(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + items


W = Stored("w", 0, (2,), bytes(8))
BIG = 1 << 62
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file: it begins with b''"),
    "another format": (b"PK\x03\x04" + bytes(100), "not a GGUF file: it begins with b'PK"),
    "only the magic": (b"GGUF\x03", "truncated: 5 bytes"),
    "version 1": (encode_gguf(version=1), "GGUF version 1 is not supported"),
    "version 4": (encode_gguf(version=4), "GGUF version 4 is not supported"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF"),
    "too many tensors": (encode_gguf(n_tensors=BIG), f"{BIG} tensors, more than 65536"),
    "too many keys": (encode_gguf(n_pairs=BIG), f"{BIG} metadata keys, more than 65536"),
    "fewer tensors": (
        encode_gguf(n_tensors=1)[:24],
        "truncated: the length of the name of tensor 0",
    ),
    "fewer keys": (encode_gguf(n_pairs=1)[:24], "truncated: the length of metadata key 0"),
    "long key": (
        encode_gguf([(b"k" * 65536, 1)]),
        "metadata key 0 is 65536 bytes long, more than 65535",
    ),
    "key beyond the end": (
        encode_gguf(n_pairs=1)[:24] + struct.pack("<Q", 60000),
        "metadata key 0 takes 60000 bytes at offset 32, 0 are left",
    ),
    "key that is not UTF-8": (
        encode_gguf([(b"k\xff", 1)]),
        r"metadata key 0 is not UTF-8: byte 0xff at offset 33",
    ),
    "the same key twice": (encode_gguf([("k", 1), ("k", 1)]), "metadata 'k': the key occurs twice"),
    "unknown type": (encode_gguf({"k": struct.pack("<I", 13)}), "metadata 'k': unknown type 13"),
    "flag of 2": (encode_gguf({"k": struct.pack("<IB", 7, 2)}), "'k' must be 0 or 1, found 2"),
    "long text": (
        encode_gguf({"k": struct.pack("<IQ", 8, BIG)}),
        f"truncated: metadata 'k' takes {BIG} bytes",
    ),
    "text that is not UTF-8": (
        encode_gguf({"k": struct.pack("<I", 8) + encode_text(b"a\xe9")}),
        "metadata 'k' is not UTF-8: byte 0xe9",
    ),
    "array of arrays": (
        encode_gguf({"k": array_of(9, 1, encode_array(["a"]))}),
        "metadata 'k': an array of arrays",
    ),
    "unknown items": (encode_gguf({"k": array_of(99, 0)}), "metadata 'k': unknown item type 99"),
    "array beyond the end": (
        encode_gguf({"k": array_of(5, BIG, bytes(8))}),
        f"metadata 'k' takes {4 * BIG} bytes",
    ),
    "texts beyond the end": (
        encode_gguf({"k": array_of(8, BIG, encode_text("a"))}),
        f"item [123] of {BIG} of metadata 'k' is missing",
    ),
    "a text of an array beyond the end": (
        encode_gguf({"k": array_of(8, 1, struct.pack("<Q", BIG))}),
        f"the last of 1 items of metadata 'k' ends at {BIG + 57}",
    ),
    "alignment of 0": (encode_gguf({"general.alignment": 0}, [W]), "power of two .* found 0"),
    "alignment of 48": (encode_gguf({"general.alignment": 48}, [W]), "power of two .* found 48"),
    "huge alignment": (
        encode_gguf({"general.alignment": 1 << 30}, [W]),
        f"power of two .* found {1 << 30}",
    ),
    "alignment is a text": (encode_gguf({"general.alignment": "32"}, [W]), "found '32'"),
    "long name": (
        encode_gguf((), [Stored("w" * 1025, 0, (2,), bytes(8))]),
        "the name of tensor 0 is 1025 bytes long",
    ),
    "the same name twice": (encode_gguf((), [W, W]), "tensor 'w': the name occurs twice"),
    "five dimensions": (
        encode_gguf((), [Stored("w", 0, (1, 1, 1, 1, 2), bytes(8))]),
        "'w': 5 dimensions, more than 4",
    ),
    "a size of 0": (
        encode_gguf((), [Stored("w", 0, (2,), bytes(8), sizes=[0, BIG])]),
        r"'w': shape \(\d+, 0\) is not a possible size",
    ),
    "product overflows": (
        encode_gguf((), [Stored("w", 0, (2,), bytes(8), sizes=[BIG, BIG])]),
        "is not a possible size",
    ),
    "unknown type of tensor": (
        encode_gguf((), [Stored("w", 200, (2,), bytes(8))]),
        "tensor 'w': unknown type id 200",
    ),
    "removed type": (
        encode_gguf((), [Stored("w", 31, (2,), bytes(8))]),
        "tensor 'w': unknown type id 31",
    ),
    "rows are no whole blocks": (
        encode_gguf((), [Stored("w", TQ2_0, (2, 128), bytes(66))]),
        r"'w': TQ2_0 of shape \(2, 128\) is not a whole number of blocks of 256",
    ),
    "offset between the multiples": (
        encode_gguf((), [f32("a", 1), Stored("w", 0, (2,), bytes(8), offset=36)]),
        "'w': offset 36 is no multiple of 32",
    ),
    "offset outside": (
        encode_gguf((), [Stored("w", 0, (2,), bytes(8), offset=1 << 40)]),
        f"'w': offset {1 << 40} is outside the file, which holds 32 bytes",
    ),
    "the same offset": (
        encode_gguf((), [Stored("a", 0, (2,), bytes(8)), Stored("w", 0, (2,), b"", offset=0)]),
        "'a': offset 0 is that of another tensor too",
    ),
    "overlap": (
        encode_gguf((), [f32("a", *range(9)), Stored("w", 0, (8,), bytes(32), offset=32)]),
        r"'a': F32 of shape \(9,\) takes 36 bytes, but there are 32",
    ),
    "gap": (
        encode_gguf((), [f32("a", 1), Stored("w", 0, (8,), bytes(64), offset=64)]),
        r"'a': F32 of shape \(1,\) takes 4 bytes, but there are 64",
    ),
    "gap at the beginning": (
        encode_gguf((), [Stored("w", 0, (2,), bytes(64), offset=32)]),
        "'w': the first offset is 32, not 0",
    ),
    "bytes left over": (
        encode_gguf((), [W]) + bytes(1),
        r"'w': F32 of shape \(2,\) takes 8 bytes, but there are 33",
    ),
    "data without tensors": (encode_gguf() + bytes(64), "64 bytes of data, but no tensors"),
    "data of the last tensor are cut": (
        encode_gguf((), [W])[:-25],
        r"'w': F32 of shape \(2,\) takes 8 bytes, but there are 7",
    ),
}


@pytest.mark.parametrize(("raw", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_files_are_refused(write: Write, raw: bytes, message: str) -> None:
    path = write(raw)
    with pytest.raises(FormatError, match=message) as raised:
        GgufFile(path)
    assert str(raised.value).startswith(str(path))


def test_a_header_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(encode_gguf(n_pairs=1)[:24] + encode_text("k") + array_of(0, 100_000_000))
        file.truncate(200_000_000)  # sparse: takes no space
    with pytest.raises(FormatError, match=r"'k' takes 100000000 bytes.*at most 100000000"):
        GgufFile(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"none\.gguf"):
        GgufFile(tmp_path / "none.gguf")


def test_messages_stay_short(write: Write) -> None:
    with pytest.raises(FormatError) as raised:
        GgufFile(write([("k" * 60000, 1), ("k" * 60000, 1)]))
    assert len(str(raised.value)) < 1000


def small_model() -> bytes:
    """A file with something of every kind, 3 KB."""
    metadata = {
        **qwen3_metadata(),
        "general.alignment": 32,
        "tokenizer.ggml.tokens": ["a", "b", "né", "<|im_end|>"],
        "tokenizer.ggml.scores": np.array([1, 2, 3, 4], np.float32),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.flags": np.array([True, False]),
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.chat_template": "{{ messages }}",
        "general.type": "model",
        "split.count": np.uint16(1),
        **VALUES,
    }
    tensors = [
        blocks(8, (4, 32), 4 * 34, "token_embd.weight"),
        blocks(14, (1, 256), 210, "output.weight"),
        blocks(ID_42, (8, 256), 544, "blk.0.attn_q.weight"),
        blocks(I2_S, (2, 128), 96, "blk.0.attn_k.weight"),
        blocks(135, (2, 64), 40, "blk.1.attn_k.weight"),
        f32("output_norm.weight", *range(16)),
        f32("blk.0.attn_norm.weight", 1),
    ]
    return encode_gguf(metadata, tensors)


def read_all(path: Path) -> None:
    """Everything that can be asked of a file."""
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata is not None
        for key in checkpoint.metadata:
            checkpoint.metadata[key]
        for name in checkpoint.names:
            info = checkpoint.info(name)
            assert checkpoint.tensor(name).array.nbytes == info.nbytes <= path.stat().st_size
            if info.dtype in BLOCK_FLOATS:
                checkpoint.floats(name)
        translate(checkpoint).sampled_digest()


def test_the_small_model_is_good(write: Write) -> None:
    read_all(write(small_model()))


def test_every_truncation_of_a_good_file_is_refused(write: Write) -> None:
    whole = small_model()
    for length in range(0, len(whole) - 28, 3):  # the last 28 bytes are padding
        with pytest.raises(FormatError, match=r"model\.gguf"):
            GgufFile(write(whole[:length]))


NASTY = [0, 1, 2, 7, 8, 9, 31, 32, 33, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
NASTY += [1 << 32, 1 << 40, (1 << 60) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1]


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """The file with one to three changes: of bytes, of integers, of lengths."""
    data = bytearray(whole)
    header = whole.index(b"blk.0.attn_norm.weight") + 40
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        at = chance.randrange(header if chance.random() < 0.95 else len(data))
        kind = chance.randrange(7)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            size = chance.choice([4, 8])
            value = chance.choice([*NASTY, len(data), len(data) - at]) % (1 << 8 * size)
            data[at : at + size] = value.to_bytes(size, "little")
        elif kind == 3:
            del data[at : at + chance.choice([1, 4, 8, 32, 100])]
        elif kind == 4:
            data[at:at] = chance.randbytes(chance.choice([1, 4, 8, 32]))
        elif kind == 5:
            other = chance.randrange(header)
            data[at : at + 8] = data[other : other + 8]
        else:
            del data[chance.randrange(len(data)) :]
        header = min(header, len(data) - 1)
        if header < 1:
            break
    return bytes(data)


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(200_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_changed_file_is_read_or_refused_at_once(write: Write, count: int) -> None:
    """Whatever is changed: a good file or a typed error, in little time and memory."""
    chance, whole = random.Random(count), small_model()
    outcomes = {"read": 0, "refused": 0}
    slowest, longest = 0.0, 0
    tracemalloc.start()
    try:
        for _ in range(count):
            path = write(mutated(whole, chance))
            start = time.thread_time()
            try:
                read_all(path)
                outcomes["read"] += 1
            except (FormatError, UnsupportedModelError) as error:
                longest = max(longest, len(str(error)))
                outcomes["refused"] += 1
            slowest = max(slowest, time.thread_time() - start)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > count // 100, outcomes
    assert longest < 2000
    assert slowest < 1
    assert peak < 16 << 20
