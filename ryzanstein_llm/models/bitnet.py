"""`model_type: bitnet`: two graphs of this name.

BitNetForCausalLM is BitNet b1.58 2B4T (arXiv 2504.12285): a Llama-like decoder with grouped-query
attention, squared ReLU, an extra RMSNorm before o_proj and before down_proj, and ternary weights in
all seven projections.

BitnetForCausalLM, with a small n, is 1bitLLM's bitnet_b1_58-large, -xl and -3B (arXiv 2402.17764):
SiLU, the same two norms under other names, and float masters.

Every float master gets absmean, as in transformers, even if its values are ternary already.
"""

from __future__ import annotations

from ..formats import Checkpoint
from .config import DecoderConfig, read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames

__all__ = ["describe", "read_bitnet_config"]

OF_MICROSOFT = LayerNames(
    attention_sub_norm="self_attn.attn_sub_norm", ffn_sub_norm="mlp.ffn_sub_norm"
)
OF_1BITLLM = LayerNames(
    attention_sub_norm="self_attn.inner_attn_ln", ffn_sub_norm="mlp.ffn_layernorm"
)


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `bitnet` checkpoint. See `models.describe_model`."""
    names = OF_1BITLLM if _is_1bitllm(ConfigReader(checkpoint)) else OF_MICROSOFT
    config = read_bitnet_config(checkpoint)
    return Description("bitnet", config, names, masters=True)


def read_bitnet_config(checkpoint: Checkpoint) -> DecoderConfig:
    """Read and check config.json.

    Raises
    ------
    FormatError, UnsupportedModelError
    """
    read = ConfigReader(checkpoint)
    if _is_1bitllm(read):
        config = read_config(read, ("BitnetForCausalLM",))
        for key, trained in (("weight_bits", 1), ("input_bits", 8)):
            if read.integer(key, trained) != trained:
                raise read.unsupported(key, read.value(key), f"only {trained} is supported")
    else:
        config = read_config(
            read,
            ("BitNetForCausalLM", "BitnetForCausalLM"),
            activation="relu2",
            rope_theta=500000.0,
            norm_eps=1e-5,
        )
    read.refuse_unread()
    return config


def _is_1bitllm(read: ConfigReader) -> bool:
    return bool(read.value("architectures") == ["BitnetForCausalLM"])
