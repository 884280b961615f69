"""`model_type: qwen3`, ternary: Ternary-Bonsai 1.7B, 4B and 8B, CAT-Q, and bitnet-embedding-0.6b.

The graph of Qwen3 (arXiv 2505.09388): an RMSNorm of each query and key head before RoPE, a head
size that does not follow from the hidden size, SiLU. bitnet-embedding-0.6b has an RMSNorm before
each projection too, and no output head.
"""

from __future__ import annotations

from ..formats import Checkpoint
from .config import read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames, has_projection_norms
from .window import refuse_window

__all__ = ["describe"]


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `qwen3` checkpoint. See `models.describe_model`."""
    read = ConfigReader(checkpoint)
    embeds = has_projection_norms(checkpoint, "norm")
    config = read_config(
        read,
        ("Qwen3ForCausalLM", "Qwen3Model"),
        context_length=32768,
        head_dim=128,
        headless=embeds,
    )
    refuse_window(read, config.context_length)
    read.refuse_unread()
    names = LayerNames(
        q_norm="self_attn.q_norm",
        k_norm="self_attn.k_norm",
        projection_norm="norm" if embeds else None,
    )
    return Description("qwen3", config, names, masters=embeds)
