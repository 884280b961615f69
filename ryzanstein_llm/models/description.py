"""What a family says about a decoder: its config, and the parts of its layers by name.

Every part is optional, so families are combinations of parts and share one loader and one graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..formats import Checkpoint
from .config import DecoderConfig

__all__ = ["PROJECTIONS", "Description", "LayerNames", "has_projection_norms"]

PROJECTIONS: Mapping[str, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@dataclass(frozen=True)
class LayerNames:
    """The parts of a layer, by their names in the checkpoint, such as "self_attn.q_norm" for
    `model.layers.0.self_attn.q_norm.weight`. None: the layer has no such part.

    Attributes
    ----------
    input_norm, post_attention_norm
        RMSNorm before q, k and v, and before gate and up.
    attention_sub_norm, ffn_sub_norm
        RMSNorm before o and before down.
    attention_output_norm, ffn_output_norm
        RMSNorm of what a block adds to the residual stream.
    q_norm, k_norm
        RMSNorm of each query head and of each key head.
    rotate_first : bool
        Whether RoPE comes before q_norm and k_norm.
    projection_norm
        RMSNorm that each projection has before it, named below the projection: "norm" for
        `self_attn.q_proj.norm.weight`.
    biases : tuple of keys of PROJECTIONS
        Projections that have a bias even where config.json has no key for it.
    """

    input_norm: str | None = "input_layernorm"
    post_attention_norm: str | None = "post_attention_layernorm"
    attention_sub_norm: str | None = None
    ffn_sub_norm: str | None = None
    attention_output_norm: str | None = None
    ffn_output_norm: str | None = None
    q_norm: str | None = None
    k_norm: str | None = None
    rotate_first: bool = False
    projection_norm: str | None = None
    biases: tuple[str, ...] = ()


def has_projection_norms(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the first projection has an RMSNorm of its own, as in bitnet-embedding models."""
    tail = f"layers.0.{PROJECTIONS['q']}.{name}.weight"
    return tail in checkpoint or f"model.{tail}" in checkpoint


@dataclass(frozen=True)
class Description:
    """A decoder before any weight is read.

    Attributes
    ----------
    family : str
        The `model_type`.
    config : DecoderConfig
    names : LayerNames
    masters : bool
        Whether all float weights of projections are masters that absmean makes ternary. Otherwise
        those that are ternary already are taken as they are, and others are masters only if
        `quantization_config` says so.
    """

    family: str
    config: DecoderConfig
    names: LayerNames
    masters: bool = False

    @property
    def generates(self) -> bool:
        """Whether the model was trained to continue texts: only embedding models have norms before
        each projection."""
        return self.names.projection_norm is None
