"""The same model as safetensors and as GGUF gives the same logits, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import Stored, encode_gguf
from reference import (
    FamilyReference,
    encodings,
    read_safetensors,
    relative_error,
    steady_prompts,
    write_random_family,
)

from ryzanstein_llm import BitNetModel

IDS = [3, 77, 5, 9, 40, 41, 2, 8, 8, 19]

# How matrices are encoded: (id in the file, group of the scales, encoder).
ENCODINGS: dict[str, tuple[int, int, Any]] = {
    "Q2_0": (42, 64, encodings.q2_0),
    "PQ2_0": (142, 128, encodings.pq2_0),
    "old Q2_0": (42, 128, encodings.pq2_0),
    "PTQ1_0": (143, 128, encodings.ptq1_0),
    "TQ1_0": (34, 256, encodings.tq1_0),
    "TQ2_0": (35, 256, encodings.tq2_0),
}
PROJECTIONS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
NAMES = {
    **PROJECTIONS, "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.inner_attn_ln": "attn_sub_norm", "mlp.ffn_layernorm": "ffn_sub_norm",
}  # fmt: skip
SIZES = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}


def gguf_name(name: str) -> str:
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    stem, _, kind = name.rpartition(".")
    if stem == "lm_head" or stem in outside:
        return f"{outside.get(stem, 'output')}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def metadata(config: dict[str, Any], architecture: str) -> dict[str, Any]:
    keys = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config["rope_theta"],
    }
    own = {f"{architecture}.{key}": value for key, value in keys.items()}
    return {"general.architecture": architecture, **own}


def write_gguf(
    directory: Path,
    architecture: str,
    encoding: str,
    *,
    permute: bool = False,
    ternary_embedding: bool = False,
) -> Path:
    """The checkpoint in `directory` as a GGUF file beside it."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    stored = []
    for name, tensor in read_safetensors(directory / "model.safetensors").items():
        new = gguf_name(name)
        projection = name.removesuffix(".weight").split(".", 3)[-1]
        matrix = projection in PROJECTIONS or (ternary_embedding and tensor.ndim == 2)
        if not matrix:
            kind = 0 if tensor.ndim == 1 else 1
            data = tensor.astype(np.float32 if kind == 0 else np.float16)
            stored.append(Stored(new, kind, tensor.shape, data.tobytes()))
            continue
        t = np.sign(tensor).astype(np.int8)
        if encoding == "I2_S":
            scales = np.abs(tensor).max(keepdims=True).astype(np.float32)
            data = encodings.i2_s(t, scales)
            stored.append(Stored(new, 36, tensor.shape, data.tobytes()))
            continue
        number, group, encode = ENCODINGS[encoding]
        scales = np.abs(tensor.reshape(len(tensor), -1, group)).max(axis=2)
        if permute and projection in ("self_attn.q_proj", "self_attn.k_proj"):
            t = encodings.interleaved(t, config["head_dim"])
            order = np.arange(len(t), dtype=np.int64)[:, None]
            heads = order.reshape(-1, 2, config["head_dim"] // 2, 1)
            scales = scales[heads.swapaxes(1, 2).reshape(-1)]
        data = encode(t, scales.astype(np.float16))
        stored.append(Stored(new, number, tensor.shape, data.tobytes()))
    path = directory / "model.gguf"
    path.write_bytes(encode_gguf(metadata(config, architecture), stored))
    return path


def same_logits(directory: Path, file: Path) -> None:
    with BitNetModel(directory / "model.safetensors", n_threads=1) as model:
        expected = model.forward(IDS)
    with BitNetModel(file, n_threads=1) as model:
        found = model.forward(IDS)
    assert np.isfinite(found).all()
    assert (found.view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_qwen3_in_every_encoding_of_groups(encoding: str, tmp_path: Path) -> None:
    group = ENCODINGS[encoding][1]
    write_random_family(tmp_path, "qwen3", f"group{group}", dtype="float16", **SIZES)
    same_logits(tmp_path, write_gguf(tmp_path, "qwen3", encoding))


@pytest.mark.parametrize("encoding", ["TQ2_0", "PQ2_0"])
def test_llama_with_its_rows_in_the_order_of_llama_cpp(encoding: str, tmp_path: Path) -> None:
    group = ENCODINGS[encoding][1]
    write_random_family(tmp_path, "llama", f"group{group}", dtype="float16", **SIZES)
    same_logits(tmp_path, write_gguf(tmp_path, "llama", encoding, permute=True))


def test_rows_in_another_order_would_be_noticed(tmp_path: Path) -> None:
    write_random_family(tmp_path, "llama", "group128", dtype="float16", **SIZES)
    with pytest.raises(AssertionError):
        same_logits(tmp_path, write_gguf(tmp_path, "llama", "PQ2_0"))


def test_i2_s_is_int8_by_token_with_one_scale(tmp_path: Path) -> None:
    write_random_family(
        tmp_path, "qwen3", "tensor", dtype="float16", quantization_config={
            "quant_method": "bitnet", "linear_class": "autobitlinear"
        }, **SIZES,
    )  # fmt: skip
    same_logits(tmp_path, write_gguf(tmp_path, "qwen3", "I2_S"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_embedding_and_head_may_be_ternary_too(encoding: str, tied: bool, tmp_path: Path) -> None:
    group = ENCODINGS[encoding][1]
    write_random_family(
        tmp_path, "qwen3", f"group{group}", dtype="float16", ternary_embedding=True,
        tie_word_embeddings=tied, **SIZES,
    )  # fmt: skip
    file = write_gguf(tmp_path, "qwen3", encoding, ternary_embedding=True)
    same_logits(tmp_path, file)
    reference = FamilyReference.open(
        tmp_path, stored=True, activations=f"group{min(group, 128)}", ternary_head=True
    )
    with BitNetModel(file, n_threads=1, kv_dtype="float32") as model:
        for ids in steady_prompts(reference, 2, 5):
            assert np.max(relative_error(model.forward(ids), reference.forward(ids))) < 1e-5
        for sampling in ({}, {"temperature": 1.0, "top_k": 20, "seed": 1}):
            result = model.generate(
                [3, 4, 5], max_tokens=5, return_result=True, ignore_eos=True, **sampling
            )
            assert len(result.ids) == 5
