"""Configurations of released ternary models of other families than BitNet 2B-4T.

Sizes follow from the released files. Where `rope_theta`, `rms_norm_eps` or the context length of a
release could not be looked up, they are the defaults of its family; they change no shape and no
speed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FAMILY_PRESETS"]


def _decoder(
    architecture: str, model_type: str, layers: int, hidden: int, inner: int, heads: int,
    kv_heads: int, vocabulary: int, **others: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **others,
    }


def _bonsai(layers: int, hidden: int, inner: int, heads: int, **others: Any) -> dict[str, Any]:
    """PrismML Ternary-Bonsai: groups of 128, embedding and head too."""
    return _decoder(
        "Qwen3ForCausalLM", "qwen3", layers, hidden, inner, heads, 8, 151669,
        head_dim=128, rms_norm_eps=1e-6, bos_token_id=151643, eos_token_id=151645,
        torch_dtype="float16", **others,
    )  # fmt: skip


def _llama(
    layers: int, hidden: int, inner: int, heads: int, kv_heads: int, vocabulary: int, **others: Any
) -> dict[str, Any]:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
    return _decoder(
        "LlamaForCausalLM", "llama", layers, hidden, inner, heads, kv_heads, vocabulary,
        **{**ids, **others},
    )  # fmt: skip


def _falcon3(layers: int, hidden: int, inner: int, heads: int) -> dict[str, Any]:
    return _llama(
        layers, hidden, inner, heads, 4, 131072, head_dim=256, rope_theta=1000042.0,
        rms_norm_eps=1e-6, max_position_embeddings=32768, bos_token_id=11, eos_token_id=11,
    )  # fmt: skip


def _falcon_e(layers: int, inner: int) -> dict[str, Any]:
    return _llama(
        layers, 2048, inner, 16, 2, 32768, head_dim=128, max_position_embeddings=32768
    )  # fmt: skip


def _trilm(
    hidden: int, inner: int, layers: int, heads: int, vocabulary: int = 50304
) -> dict[str, Any]:
    return _llama(
        layers, hidden, inner, heads, heads, vocabulary, max_position_embeddings=2048,
        torch_dtype="float16", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def _1bitllm(layers: int, hidden: int, inner: int, heads: int) -> dict[str, Any]:
    return _decoder(
        "BitnetForCausalLM", "bitnet", layers, hidden, inner, heads, heads, 32002,
        rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048, weight_bits=1,
        input_bits=8, pad_token_id=32000, bos_token_id=1, eos_token_id=2, torch_dtype="float16",
    ) | {"tie_word_embeddings": True}  # fmt: skip


FAMILY_PRESETS: dict[str, dict[str, Any]] = {
    "Ternary-Bonsai-1.7B": _bonsai(
        28, 2048, 6144, 16, rope_theta=1e6, max_position_embeddings=32768
    )
    | {"tie_word_embeddings": True},
    "Ternary-Bonsai-4B": _bonsai(36, 2560, 9728, 32, rope_theta=5e6, max_position_embeddings=32768)
    | {"tie_word_embeddings": True},
    "Ternary-Bonsai-8B": _bonsai(
        36, 4096, 12288, 32, rope_theta=1e6, max_position_embeddings=65536
    ),
    "Llama3-8B-1.58-100B-tokens": _llama(
        32, 4096, 14336, 32, 8, 128256, rope_theta=500000.0, max_position_embeddings=8192,
        bos_token_id=128000, eos_token_id=128009,
    ),
    "Falcon3-1B-Instruct-1.58bit": _falcon3(18, 2048, 8192, 8),
    "Falcon3-3B-Instruct-1.58bit": _falcon3(22, 3072, 9216, 12),
    "Falcon3-7B-Instruct-1.58bit": _falcon3(28, 3072, 23040, 12),
    "Falcon3-10B-Instruct-1.58bit": _falcon3(40, 3072, 23040, 12),
    "Falcon-E-1B-Instruct": _falcon_e(24, 9216),
    "Falcon-E-3B-Instruct": _falcon_e(32, 13312),
    "TriLM_99M_Unpacked": _trilm(512, 1280, 16, 8),
    "TriLM_560M_Unpacked": _trilm(1280, 3072, 24, 20),
    "TriLM_1.1B_Unpacked": _trilm(1792, 5120, 24, 28, 50432),
    "TriLM_3.9B_Unpacked": _trilm(3072, 9216, 30, 24, 50688),
    "bitnet_b1_58-large": _1bitllm(24, 1536, 4096, 16),
    "bitnet_b1_58-xl": _1bitllm(24, 2048, 5460, 32),
    "bitnet_b1_58-3B": _1bitllm(26, 3200, 8640, 32),
}  # fmt: skip
