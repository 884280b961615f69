"""The architectures of GGUF files (`general.architecture`) and the families that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..formats import Checkpoint
from .gguf_values import MetadataReader

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of"]

# Parts of a layer: name in the file -> name in the family.
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
SUB_NORMS = {"attn_sub_norm": "self_attn.attn_sub_norm", "ffn_sub_norm": "mlp.ffn_sub_norm"}
OLD_SUB_NORMS = {"attn_sub_norm": "self_attn.inner_attn_ln", "ffn_sub_norm": "mlp.ffn_layernorm"}


@dataclass(frozen=True)
class Architecture:
    """
    Attributes
    ----------
    model_type, class_name, activation : str
        As in config.json: `model_type`, the only one of `architectures`, and `hidden_act`.
    norms : Mapping[str, str]
        Names of norms within a layer: in the file, in the family.
    interleaved : bool
        Whether q and k have the row order for rotating neighbours.
    """

    model_type: str
    class_name: str
    activation: str = "silu"
    norms: Mapping[str, str] = field(default_factory=lambda: NORMS)
    interleaved: bool = False


MICROSOFT = Architecture("bitnet", "BitNetForCausalLM", "relu2", {**NORMS, **SUB_NORMS})

ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", interleaved=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM"),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", norms={**NORMS, **HEAD_NORMS}),
    # 1bitLLM's. llama.cpp converts BitNet 2B-4T to this name too, and then computes SiLU for it;
    # `architecture_of` tells them apart.
    "bitnet": Architecture("bitnet", "BitnetForCausalLM", "silu", {**NORMS, **OLD_SUB_NORMS}),
    "bitnet-25": MICROSOFT,
    "bitnet-b1.58": MICROSOFT,
    "gemma3": Architecture(
        "gemma3_text",
        "Gemma3ForCausalLM",
        "gelu_pytorch_tanh",
        {
            **HEAD_NORMS,
            "attn_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
    ),
    "hunyuan-dense": Architecture(
        "hunyuan_v1_dense",
        "HunYuanDenseV1ForCausalLM",
        norms={
            **NORMS,
            "attn_q_norm": "self_attn.query_layernorm",
            "attn_k_norm": "self_attn.key_layernorm",
        },
    ),
}

# Why some of the others cannot run. A name that begins like one of these counts as that one.
OTHERS = {
    "qwen35": "a hybrid of attention and linear recurrence (Gated DeltaNet)",
    "qwen3next": "a hybrid of attention and linear recurrence (Gated DeltaNet)",
    "clip": "the vision or audio encoder of another model",
    "mmproj": "the vision or audio encoder of another model",
    "vibe": "a speech model",
    "whisper": "a speech model",
    "minicpm": "its scaled residuals are not supported",
}


def architecture_of(checkpoint: Checkpoint) -> str:
    """A key of ARCHITECTURES: `general.architecture`, except that BitNet 2B-4T under the name
    `bitnet` is told by its tokenizer, Llama 3's, and is `bitnet-b1.58`.

    Raises
    ------
    FormatError
        The key is missing or no text.
    UnsupportedModelError
        Another architecture.
    """
    read = MetadataReader(checkpoint)
    name = read.text("general.architecture")
    if name not in ARCHITECTURES:
        reason = next((f" ({why})" for start, why in OTHERS.items() if name.startswith(start)), "")
        supported = ", ".join(map(repr, ARCHITECTURES))
        raise read.unsupported(
            "general.architecture", name, f"not supported{reason}; supported: {supported}"
        )
    if name == "bitnet" and read.text("tokenizer.ggml.model", "") == "gpt2":
        return "bitnet-b1.58"
    return name
