"""A packed BitNet checkpoint as a GGUF file of the same ternary weights, for llama.cpp.

The architecture is "bitnet" (LLM_ARCH_BITNET), whose graph is that of `model_type: bitnet` with
sub-norms before the output and down projections and the rotation of halves, not of pairs; so
names change and nothing else. But it always applies SiLU: for a checkpoint with another
`hidden_act` the file serves speed and not results. `silu_variant` makes one that serves both.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ryzanstein_llm.errors import InvalidParameterError, UnsupportedModelError
from ryzanstein_llm.formats import Checkpoint, Tensor, open_checkpoint
from ryzanstein_llm.models.bitnet import read_bitnet_config
from ryzanstein_llm.models.config import DecoderConfig
from ryzanstein_llm.testing import from_bf16_bits, tensor_shapes, unpack_hf

from .ggml_blocks import BLOCK, pack_q6_k, pack_tq1_0, pack_tq2_0

__all__ = ["EMBEDDING_TYPES", "TERNARY_TYPES", "silu_variant", "write_gguf"]

TERNARY_TYPES = {"TQ2_0": pack_tq2_0, "TQ1_0": pack_tq1_0}
EMBEDDING_TYPES = ("Q6_K", "BF16")  # the head is the embedding: this is what both are read as

ROWS = 4096  # of the embedding, quantised at a time

# Names in a layer: of the checkpoint, of GGUF.
PROJECTIONS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {
    "input_layernorm": "attn_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}


@dataclass(frozen=True)
class _Plan:
    """A tensor to be written: `data()` gives bytes (rows, bytes a row), or float32 (width,)."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: Callable[[], NDArray[Any]]


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
    from gguf import GGUFWriter

    for name, value, allowed in (
        ("ternary", ternary, tuple(TERNARY_TYPES)),
        ("embedding", embedding, EMBEDDING_TYPES),
    ):
        if value not in allowed:
            raise InvalidParameterError(f"{name} must be one of {allowed}, got {value!r}")
    target = Path(target)
    partial = target.with_name(target.name + ".partial")
    with open_checkpoint(checkpoint) as source:
        config = read_bitnet_config(source)
        plans = list(_plans(source, config, ternary, embedding))
        writer = GGUFWriter(partial, "bitnet")
        try:
            _describe_model(writer, config, source.path.name, ternary)
            for plan in plans:
                _describe_tensor(writer, plan)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for done, plan in enumerate(plans, 1):
                writer.write_tensor_data(plan.data())
                if progress is not None:
                    progress(done, len(plans))
            writer.close()
            os.replace(partial, target)
        finally:
            writer.close()
            partial.unlink(missing_ok=True)
    return target


def _describe_model(writer: Any, config: DecoderConfig, name: str, ternary: str) -> None:
    from gguf import LlamaFileType, RopeScalingType

    writer.add_name(name)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{ternary}"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_scaling_type(RopeScalingType.NONE)
    writer.add_tokenizer_model("none")


def _describe_tensor(writer: Any, plan: _Plan) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    kind = GGMLQuantizationType[plan.type]
    shape: tuple[int, ...] = plan.shape
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if kind != GGMLQuantizationType.F32:
        shape, dtype = quant_shape_to_byte_shape(plan.shape, kind), np.dtype(np.uint8)
    writer.add_tensor_info(plan.name, shape, dtype, dtype.itemsize * math.prod(shape), kind)


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


def _plans(
    source: Checkpoint, config: DecoderConfig, ternary: str, embedding: str
) -> Iterator[_Plan]:
    _check(source, config)
    shapes = tensor_shapes(source.config)
    embedding_name = "model.embed_tokens.weight"

    def norm(name: str, gguf_name: str) -> _Plan:
        shape = shapes[name]
        return _Plan(gguf_name, "F32", shape, lambda: _floats(source.tensor(name, shape=shape)))

    yield _Plan(
        "token_embd.weight",
        embedding,
        shapes[embedding_name],
        lambda: _embedding(source.tensor(embedding_name, shape=shapes[embedding_name]), embedding),
    )
    for layer in range(config.n_layers):
        at, block = f"model.layers.{layer}", f"blk.{layer}"
        for name, gguf_name in NORMS.items():
            yield norm(f"{at}.{name}.weight", f"{block}.{gguf_name}.weight")
        for name, gguf_name in PROJECTIONS.items():
            prefix = f"{at}.{name}"
            shape = shapes[f"{prefix}.weight"]

            def projection(prefix: str = prefix, rows: int = shape[0]) -> NDArray[np.uint8]:
                return _projection(source, prefix, rows, config.scale_divides, ternary)

            yield _Plan(f"{block}.{gguf_name}.weight", ternary, shape, projection)
    yield norm("model.norm.weight", "output_norm.weight")


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


def _embedding(tensor: Tensor, kind: str) -> NDArray[np.uint8]:
    if kind == "BF16":
        if tensor.dtype != "BF16":
            raise UnsupportedModelError(f"tensor {tensor.name!r} is {tensor.dtype}, not BF16")
        return tensor.array.view(np.uint8)
    blocks = range(0, len(tensor.array), ROWS)
    return np.concatenate([pack_q6_k(_floats(tensor, start, start + ROWS)) for start in blocks])


def _floats(tensor: Tensor, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    part = np.ascontiguousarray(tensor.array[start:stop])
    return from_bf16_bits(part) if tensor.dtype == "BF16" else part.astype(np.float32)
