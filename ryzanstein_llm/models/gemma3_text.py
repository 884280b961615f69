"""`model_type: gemma3_text`, ternary: bitnet-embedding-270m.

The graph of Gemma 3 (arXiv 2503.19786): embeddings times sqrt(hidden_size), four norms a layer,
whose stored weights count from 1, a norm of each query and key head, tanh-GELU, and layers that see
only the last positions, with a RoPE of their own. bitnet-embedding-270m has an RMSNorm before each
projection too, whose weights count from 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..formats import Checkpoint
from ..kernels.elementwise import inverse_square_root
from .config import DecoderConfig, read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames, has_projection_norms
from .window import gemma_window

__all__ = ["describe"]


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `gemma3_text` checkpoint. See `models.describe_model`."""
    embeds = has_projection_norms(checkpoint, "norm")
    names = LayerNames(
        attention_output_norm="post_attention_layernorm",
        post_attention_norm="pre_feedforward_layernorm",
        ffn_output_norm="post_feedforward_layernorm",
        q_norm="self_attn.q_norm",
        k_norm="self_attn.k_norm",
        projection_norm="norm" if embeds else None,
    )
    config = read_gemma_config(checkpoint, headless=embeds)
    return Description("gemma3_text", config, names, masters=embeds)


def read_gemma_config(checkpoint: Checkpoint, *, headless: bool = False) -> DecoderConfig:
    """Read and check config.json. `headless` is as in `read_config`.

    Raises
    ------
    FormatError, UnsupportedModelError
    """
    read = ConfigReader(checkpoint)
    config = read_config(
        read,
        ("Gemma3ForCausalLM", "Gemma3TextModel"),
        activation="gelu_pytorch_tanh",
        activation_key="hidden_activation",
        rope_theta=1000000.0,
        context_length=131072,
        head_dim=256,
        tied=True,
        headless=headless,
    )
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        if key in read:
            raise read.unsupported(key, read.value(key), "not supported")
    if read.boolean("use_bidirectional_attention", False):
        raise read.unsupported("use_bidirectional_attention", True, "only false is supported")
    window = gemma_window(read, config)
    offset = read.value("norm_offset", 1.0)  # GGUF files have norms to which 1 was added
    if offset not in (0, 1):
        raise read.wrong("norm_offset", offset, "0 or 1")
    scale = read.positive("query_pre_attn_scalar", 256)
    read.refuse_unread()
    return replace(
        config,
        score_scale=inverse_square_root(scale),
        norm_offset=offset,
        embedding_multiplier=float(np.sqrt(np.float32(config.hidden_size))),
        window=window,
    )
