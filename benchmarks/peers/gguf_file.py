"""A packed BitNet checkpoint as a GGUF file of the same ternary weights, for llama.cpp.

The architecture is "bitnet" (LLM_ARCH_BITNET), whose graph is that of `model_type: bitnet` with
sub-norms before the output and down projections and the rotation of halves, not of pairs; so
names change and nothing else. But it always applies SiLU: for a checkpoint with another
`hidden_act` the file serves speed and not results. `silu_variant` makes one that serves both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ryzanstein_llm.conversion.gguf_names import gguf_name
from ryzanstein_llm.errors import InvalidParameterError, UnsupportedModelError
from ryzanstein_llm.formats import Checkpoint, Tensor, gguf_writer, open_checkpoint
from ryzanstein_llm.formats.gguf_writer import GgufTensor
from ryzanstein_llm.models.bitnet import read_bitnet_config
from ryzanstein_llm.models.config import DecoderConfig
from ryzanstein_llm.testing import from_bf16_bits, tensor_shapes, unpack_hf

from .ggml_blocks import BLOCK, pack_q6_k, pack_tq1_0, pack_tq2_0

__all__ = ["EMBEDDING_TYPES", "TERNARY_TYPES", "silu_variant", "write_gguf"]

TERNARY_TYPES = {"TQ2_0": pack_tq2_0, "TQ1_0": pack_tq1_0}
FILE_TYPES = {"TQ2_0": 37, "TQ1_0": 36}  # of general.file_type
EMBEDDING_TYPES = ("Q6_K", "BF16")  # the head is the embedding: this is what both are read as

ROWS = 4096  # of the embedding, quantised at a time


def write_gguf(
    checkpoint: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    ternary: str = "TQ2_0",
    embedding: str = "Q6_K",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model of a checkpoint directory to a GGUF file, one tensor at a time.

    There is no tokenizer in it (`tokenizer.ggml.model` is "none"): it takes and gives ids.

    Parameters
    ----------
    checkpoint : path
        BitNet, packed, with a tied head and widths that are multiples of 256.
    target : path
        Appears once it is complete; replaced if there is one.
    ternary : "TQ2_0" or "TQ1_0"
        Of the projections.
    embedding : "Q6_K" or "BF16"
        Of the embedding, which is the head too. PyPI `gguf` cannot write Q6_K; `ggml_blocks` does.
    progress : callable (tensors done, tensors in all), optional

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    InvalidParameterError
        Of types there are no others.
    UnsupportedModelError
        The checkpoint has what such a file cannot hold.
    FormatError
        The checkpoint is damaged.
    """
    for name, value, allowed in (
        ("ternary", ternary, tuple(TERNARY_TYPES)),
        ("embedding", embedding, EMBEDDING_TYPES),
    ):
        if value not in allowed:
            raise InvalidParameterError(f"{name} must be one of {allowed}, got {value!r}")
    with open_checkpoint(checkpoint) as source:
        config = read_bitnet_config(source)
        metadata = _metadata(config, source.path.name, ternary)
        tensors = list(_tensors(source, config, ternary, embedding))
        gguf_writer.write_gguf(Path(target), metadata, tensors, progress)
    return Path(target)


def _metadata(config: DecoderConfig, name: str, ternary: str) -> dict[str, Any]:
    return {
        "general.architecture": "bitnet",
        "general.name": name,
        "general.file_type": FILE_TYPES[ternary],
        "bitnet.vocab_size": config.vocab_size,
        "bitnet.context_length": config.context_length,
        "bitnet.embedding_length": config.hidden_size,
        "bitnet.block_count": config.n_layers,
        "bitnet.feed_forward_length": config.intermediate_size,
        "bitnet.attention.head_count": config.n_heads,
        "bitnet.attention.head_count_kv": config.n_kv_heads,
        "bitnet.attention.key_length": config.head_dim,
        "bitnet.attention.value_length": config.head_dim,
        "bitnet.attention.layer_norm_rms_epsilon": config.norm_eps,
        "bitnet.rope.dimension_count": config.head_dim,
        "bitnet.rope.freq_base": float(config.rope_theta),
        "bitnet.rope.scaling.type": "none",
        "tokenizer.ggml.model": "none",
    }


def silu_variant(checkpoint: str | os.PathLike[str], directory: str | os.PathLike[str]) -> Path:
    """The same weights with `hidden_act` "silu" in config.json, as a directory of links.

    This is the model that llama.cpp computes from the file that `write_gguf` makes of either.

    Parameters
    ----------
    checkpoint : path
        A directory.
    directory : path
        Created where needed; what is in the way is replaced.
    """
    source, target = Path(checkpoint).resolve(), Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["hidden_act"] = "silu"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in source.glob("*.safetensors*"):
        link = target / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return target


def _tensors(
    source: Checkpoint, config: DecoderConfig, ternary: str, embedding: str
) -> Iterator[GgufTensor]:
    _check(source, config)
    for name, shape in tensor_shapes(source.config).items():
        stored = gguf_name(name, "bitnet-b1.58")
        if stored is None:  # a scale: it is in the blocks
            continue
        if name == "model.embed_tokens.weight":
            kind, read = embedding, partial(_embedding, source, name, shape, embedding)
        elif len(shape) == 1:
            kind, read = "F32", partial(_norm, source, name, shape)
        else:
            kind, read = ternary, partial(
                _projection, source, name.removesuffix(".weight"), shape[0],
                config.quantization.divides, ternary,
            )  # fmt: skip
        yield GgufTensor(stored, kind, shape, lambda read=read: [read()])


def _check(source: Checkpoint, config: DecoderConfig) -> None:
    def refuse(what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{source.path}: {what}")

    if not config.tied_head:
        raise refuse("the head is not tied, which llama.cpp's bitnet graph takes for granted")
    q_width = config.n_heads * config.head_dim
    for name, width in (
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("heads times head_dim", q_width),
    ):
        if width % BLOCK:
            raise refuse(f"{name} {width} is no multiple of {BLOCK}, the block of ternary types")
    if q_width != config.hidden_size:
        raise refuse(f"heads times head_dim {q_width} is not hidden_size {config.hidden_size}")
    first = "model.layers.0.self_attn.q_proj.weight"
    if source.info(first).dtype != "U8":
        raise refuse(f"tensor {first!r} is {source.info(first).dtype}; packed weights are needed")


def _projection(
    source: Checkpoint, prefix: str, rows: int, divides: bool, ternary: str
) -> NDArray[np.uint8]:
    codes = unpack_hf(source.tensor(f"{prefix}.weight", dtypes=("U8",)).array, rows)
    stored = float(_floats(source.tensor(f"{prefix}.weight_scale")).reshape(()))
    packed = TERNARY_TYPES[ternary](codes, 1 / stored if divides else stored)
    source.release(f"{prefix}.weight")
    return packed


def _norm(source: Checkpoint, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return _floats(source.tensor(name, shape=shape))


def _embedding(
    source: Checkpoint, name: str, shape: tuple[int, ...], kind: str
) -> NDArray[np.uint8]:
    tensor = source.tensor(name, shape=shape)
    if kind == "BF16":
        if tensor.dtype != "BF16":
            raise UnsupportedModelError(f"tensor {tensor.name!r} is {tensor.dtype}, not BF16")
        return tensor.array.view(np.uint8)
    blocks = range(0, len(tensor.array), ROWS)
    return np.concatenate([pack_q6_k(_floats(tensor, start, start + ROWS)) for start in blocks])


def _floats(tensor: Tensor, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    part = np.ascontiguousarray(tensor.array[start:stop])
    return from_bf16_bits(part) if tensor.dtype == "BF16" else part.astype(np.float32)
