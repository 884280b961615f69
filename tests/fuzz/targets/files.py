"""Containers: safetensors, its index, and GGUF, without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ryzanstein_llm import convert
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.formats.gguf_file import GgufFile
from ryzanstein_llm.formats.safetensors_file import SafetensorsFile
from ryzanstein_llm.formats.safetensors_writer import TensorPlan, encode_header, write_data
from tests.gguf_writer import Stored, encode_gguf, qwen3_metadata
from tests.reference import encodings

from ..models import replace_file, small_model
from ..target import Ready, target

__all__ = ["gguf_models", "plain_safetensors"]


def plain_safetensors() -> bytes:
    """Tensors of every kind of type, one of them empty."""
    made = {
        "a": ("F32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        "b": ("BF16", np.arange(4, dtype=np.uint16)),
        "c": ("U8", np.arange(5, dtype=np.uint8)),
        "empty": ("I64", np.zeros((0, 3), np.int64)),
        "one": ("F16", np.array(1, np.float16)),
    }
    plans = [
        TensorPlan(name, dtype, array.shape, lambda array=array: [array])  # type: ignore[misc]
        for name, (dtype, array) in made.items()
    ]
    pieces: list[bytes] = []
    write_data(plans, lambda block: pieces.append(block.tobytes()))
    return encode_header(plans, {"format": "pt"}, 64) + b"".join(pieces)


def gguf_models(folder: Path) -> Sequence[bytes]:
    """Whole models in GGUF, one with a tokenizer, and one for each encoding of ternary weights."""
    wide = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 64}
    source = small_model(folder / "text", wide)
    made = convert(source, folder / "text.gguf", to="i2_s", n_threads=1)
    return [made.read_bytes(), *map(_ternary_gguf, ENCODINGS)]


# by name: the id in the file, columns that share a scale, encoder
ENCODINGS: dict[str, tuple[int, int, Any]] = {
    "Q2_0": (42, 64, encodings.q2_0),
    "PQ2_0": (142, 128, encodings.pq2_0),
    "PTQ1_0": (143, 128, encodings.ptq1_0),
    "TQ1_0": (34, 256, encodings.tq1_0),
    "TQ2_0": (35, 256, encodings.tq2_0),
    "I2_S": (36, 0, encodings.i2_s),
    "IQ1_BN": (134, 0, encodings.iq1_bn),
    "IQ2_BN": (135, 0, encodings.iq2_bn),
}
ROWS = {
    "attn_q": 256, "attn_k": 128, "attn_v": 128, "attn_output": 256, "ffn_gate": 256, "ffn_up": 256,
    "ffn_down": 256,
}  # fmt: skip
NORMS = {"attn_norm": 256, "ffn_norm": 256, "attn_q_norm": 128, "attn_k_norm": 128}


def _ternary_gguf(encoding: str) -> bytes:
    """A Qwen3 of one layer with 32 tokens, and without a tokenizer."""
    number, group, encode = ENCODINGS[encoding]
    random = np.random.default_rng(number)

    def norm(name: str, width: int) -> Stored:
        return Stored(name, 0, (width,), random.normal(1, 0.2, width).astype("<f4").tobytes())

    tensors = [
        Stored(
            "token_embd.weight", 1, (32, 256), random.normal(0, 1, 8192).astype("<f2").tobytes()
        ),
        norm("output_norm.weight", 256),
        *(norm(f"blk.0.{name}.weight", width) for name, width in NORMS.items()),
    ]
    for name, rows in ROWS.items():
        codes = random.integers(-1, 2, (rows, 256)).astype(np.int8)
        shape = (rows, 256 // group) if group else (rows if "BN" in encoding else 1, 1)
        scales = np.full(shape, 0.0625, np.float16 if group or encoding == "IQ1_BN" else np.float32)
        data = encode(codes, scales).tobytes()
        tensors.append(Stored(f"blk.0.{name}.weight", number, (rows, 256), data))
    changes = {"block_count": 1, "attention.head_count": 2, "attention.head_count_kv": 1}
    keys = qwen3_metadata(**changes, feed_forward_length=256)
    return encode_gguf(keys, tensors)


@target
def safetensors(folder: Path) -> Ready:
    """The header, with the library's check, and every tensor."""
    seed = plain_safetensors()

    def read(data: bytes) -> None:
        file = SafetensorsFile(replace_file(folder / "f.safetensors", data))
        for name in file.infos:
            file.array(name).tobytes()
            file.release(name)
        list(file.samples(4, 16))
        file.close()

    words = [b'"F8_E4M3"', b'"data_offsets":[0,0]', b'"__metadata__":{"a":1}', b'"shape":[0]']
    return Ready(read, [seed, seed[:8] + b"{}" + seed[10:], b"\2" + bytes(7) + b"{}"], words)


@target
def safetensors_index(folder: Path) -> Ready:
    """`model.safetensors.index.json` of two shards."""
    path = small_model(folder / "model", shards=2, tokenizer=False)
    index = path / "model.safetensors.index.json"
    seed = index.read_bytes()

    def read(data: bytes) -> None:
        replace_file(index, data)
        with open_checkpoint(path) as checkpoint:
            for name in checkpoint.names:
                checkpoint.info(name)
            checkpoint.sampled_digest()

    shards = json.loads(seed)["weight_map"].values()
    words = [b"../model-00001-of-00002.safetensors", *{name.encode() for name in shards}]
    return Ready(read, [seed], words)


@target
def gguf(folder: Path) -> Ready:
    """The header, all metadata, and every tensor."""
    seeds = gguf_models(folder)

    def read(data: bytes) -> None:
        file = GgufFile(replace_file(folder / "f.gguf", data))
        for key in file.metadata:
            repr(file.metadata[key])
        for name in file.infos:
            file.array(name).tobytes()
        list(file.samples(4, 16))
        file.close()

    return Ready(read, seeds, [b"GGUF", b"general.alignment", bytes(8), b"\xff" * 8])
