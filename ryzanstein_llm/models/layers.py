"""From the tensors of a checkpoint to a decoder: a family says which parts its layers have.

Every part is optional, so families are combinations of parts and share one loader and one graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..formats import Checkpoint, Tensor
from ..kernels.decoder_layer import DecoderLayer
from ..kernels.head import MAX_SCREEN_COLUMNS
from ..kernels.ternary_matrix import TernaryMatrix
from .base import LoadOptions
from .config import DecoderConfig
from .decoder import Decoder
from .embedding import FloatEmbedding, TernaryEmbedding
from .head import FloatHead, Head, TernaryHead
from .weights import WeightLoader, layouts_of, refuse_other_head, refuse_unused

__all__ = ["PROJECTIONS", "LayerNames", "has_projection_norms", "load_decoder"]

# Rows of `up` and columns of `down` with at least this many weights, about 512 bytes, are worth
# skipping. Jumping over shorter runs of memory costs as much as reading them.
SKIPPING_PAYS = 2048

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


def load_decoder(
    checkpoint: Checkpoint,
    options: LoadOptions,
    family: str,
    config: DecoderConfig,
    names: LayerNames,
    *,
    masters: bool = False,
) -> Decoder:
    """Read the weights of a decoder. For errors see `models.load_model`.

    Parameters
    ----------
    masters : bool
        Whether all float weights of projections are masters that absmean makes ternary. Otherwise
        those that are ternary already are taken as they are, and others are masters only if
        `quantization_config` says so.
    """
    layouts = layouts_of(options.weight_format, config.hidden_size)
    loader = WeightLoader(
        checkpoint, options, config.quantization, masters, 7 * config.n_layers, layouts.whole
    )
    loader.choose_layout(f"layers.0.{PROJECTIONS['q']}", config.q_width, config.hidden_size)
    builder = _LayerBuilder(loader, config, names, options.skipping)
    shape = config.vocab_size, config.hidden_size
    embedding = loader.ternary_or_dense("embed_tokens", *shape)
    head = embedding
    if not config.tied_head:
        head = loader.ternary_or_dense("lm_head", *shape)
    elif "lm_head.weight" in checkpoint and isinstance(embedding, Tensor):
        refuse_other_head(checkpoint, embedding)
    layers = [
        builder.layer(index, layouts.rows, layouts.columns) for index in range(config.n_layers)
    ]
    final_norm = loader.vector(
        "norm.weight", config.hidden_size, config.norm_offset, config.logits_multiplier
    )
    refuse_unused(checkpoint, loader.used, family)
    generates = names.projection_norm is None  # only embedding models have these norms
    return Decoder(
        family,
        config,
        _embedding(embedding, config.embedding_multiplier),
        layers,
        _head(loader, head, final_norm, config.norm_eps, generates),
        loader.n_parameters,
        generates=generates,
    )


def _embedding(
    matrix: TernaryMatrix | Tensor, multiplier: float
) -> FloatEmbedding | TernaryEmbedding:
    if isinstance(matrix, Tensor):
        return FloatEmbedding(matrix, multiplier)
    return TernaryEmbedding(matrix, multiplier)


def _head(
    loader: WeightLoader,
    matrix: TernaryMatrix | Tensor,
    norm: NDArray[np.float32],
    eps: float,
    generates: bool,
) -> Head:
    if not isinstance(matrix, Tensor):
        return TernaryHead(matrix, norm, eps)
    screened = generates and matrix.array.shape[1] <= MAX_SCREEN_COLUMNS
    return FloatHead(matrix, norm, eps, loader.screen(matrix) if screened else None)


class _LayerBuilder:
    def __init__(
        self,
        loader: WeightLoader,
        config: DecoderConfig,
        names: LayerNames,
        skipping: bool | None,
    ) -> None:
        self._loader, self._config, self._names = loader, config, names
        if skipping is None:
            skipping = config.hidden_size >= SKIPPING_PAYS
        self._skipping = skipping and config.activation == "relu2"
        hidden, ffn = config.hidden_size, config.intermediate_size
        self._shapes = {  # (rows, columns)
            "q": (config.q_width, hidden),
            "k": (config.kv_width, hidden),
            "v": (config.kv_width, hidden),
            "o": (hidden, config.q_width),
            "gate": (ffn, hidden),
            "up": (ffn, hidden),
            "down": (hidden, ffn),
        }
        self._biases = {
            *names.biases,
            *("qkvo" if config.attention_bias else ()),
            *(("gate", "up", "down") if config.mlp_bias else ()),
        }

    def layer(self, index: int, rows: str, columns: str) -> DecoderLayer:
        """The layer of an index. `rows` and `columns` are layouts for skipping."""
        loader, config, names = self._loader, self._config, self._names
        at = f"layers.{index}"
        hidden, ffn = config.hidden_size, config.intermediate_size
        layouts = {"up": rows, "down": columns} if self._skipping else {}

        def norm(name: str | None, size: int, offset: float = 0.0):  # type: ignore[no-untyped-def]
            return None if name is None else loader.vector(f"{at}.{name}.weight", size, offset)

        def matrix(name: str) -> TernaryMatrix:
            shape = self._shapes[name]
            head_dim = config.head_dim if config.interleaved and name in ("q", "k") else 0
            return loader.ternary(f"{at}.{PROJECTIONS[name]}", *shape, layouts.get(name), head_dim)

        offset = config.norm_offset
        input_norm = norm(names.input_norm, hidden, offset)
        q, k, v = matrix("q"), matrix("k"), matrix("v")
        attention_sub_norm = norm(names.attention_sub_norm, config.q_width)
        o = matrix("o")
        post_attention_norm = norm(names.post_attention_norm, hidden, offset)
        gate, up = matrix("gate"), matrix("up")
        ffn_sub_norm = norm(names.ffn_sub_norm, ffn)
        window = config.window.of_layer(index) if config.window is not None else 0
        return DecoderLayer(
            input_norm=input_norm,
            q=q,
            k=k,
            v=v,
            attention_sub_norm=attention_sub_norm,
            o=o,
            post_attention_norm=post_attention_norm,
            gate=gate,
            up=up,
            activation=config.activation,
            ffn_sub_norm=ffn_sub_norm,
            down=matrix("down"),
            eps=config.norm_eps,
            q_norm=norm(names.q_norm, config.head_dim, offset),
            k_norm=norm(names.k_norm, config.head_dim, offset),
            rotate_first=names.rotate_first,
            attention_output_norm=norm(names.attention_output_norm, hidden, offset),
            ffn_output_norm=norm(names.ffn_output_norm, hidden, offset),
            projection_norms={
                name: norm(f"{PROJECTIONS[name]}.{names.projection_norm}", shape[1])
                for name, shape in self._shapes.items()
                if names.projection_norm is not None
            },
            biases={
                name: loader.vector(f"{at}.{PROJECTIONS[name]}.bias", self._shapes[name][0])
                for name in sorted(self._biases)
            },
            residual_multiplier=config.residual_multiplier,
            rotary=1 if window else 0,
            window=window,
        )
