"""`model_type: hunyuan_v1_dense`, ternary: Hy-MT1.5-1.8B-1.25bit (translation).

The graph of Llama with an RMSNorm of each query and key head. Unlike in Qwen3, RoPE comes first and
the norms follow.
"""

from __future__ import annotations

from ..formats import Checkpoint
from .config import read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames

__all__ = ["describe"]

NAMES = LayerNames(
    q_norm="self_attn.query_layernorm", k_norm="self_attn.key_layernorm", rotate_first=True
)


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `hunyuan_v1_dense` checkpoint. See `models.describe_model`."""
    read = ConfigReader(checkpoint)
    config = read_config(read, ("HunYuanDenseV1ForCausalLM",), norm_eps=1e-5)
    if not read.boolean("use_qk_norm", True):
        raise read.unsupported("use_qk_norm", False, "only true is supported")
    read.refuse_unread()
    return Description("hunyuan_v1_dense", config, NAMES)
