"""From the tensors of a checkpoint to a decoder, as its plan says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Checkpoint, Tensor
from ..kernels.decoder_layer import DecoderLayer
from ..kernels.ternary_matrix import TernaryMatrix
from .base import LoadOptions
from .decoder import Decoder
from .embedding import FloatEmbedding, TernaryEmbedding
from .head import FloatHead, Head, TernaryHead
from .plan import DecoderPlan, LayerPlan, VectorPlan
from .weights import WeightLoader, refuse_other_head, refuse_unused

__all__ = ["load_decoder"]

ALWAYS = ("input_norm", "attention_sub_norm", "post_attention_norm", "ffn_sub_norm")
"""Norms that `DecoderLayer` wants to be told about, as None if there is none."""


def load_decoder(checkpoint: Checkpoint, options: LoadOptions, plan: DecoderPlan) -> Decoder:
    """Read the weights of a decoder. For errors see `models.load_model`."""
    description = plan.description
    loader = WeightLoader(checkpoint, options, plan)
    embedding = loader.embedding(plan.embedding)
    head = embedding
    if plan.head is not None:
        head = loader.embedding(plan.head)
    elif "lm_head.weight" in checkpoint and isinstance(embedding, Tensor):
        refuse_other_head(checkpoint, embedding)
    layers = [_layer(loader, index, layer) for index, layer in enumerate(plan.layers)]
    final_norm = loader.vector(plan.final_norm)
    refuse_unused(checkpoint, loader.used, description.family)
    return Decoder(
        description.family,
        description.config,
        _embedding(embedding, description.config.embedding_multiplier),
        layers,
        _head(loader, head, final_norm),
        loader.n_parameters,
        generates=description.generates,
    )


def _embedding(
    matrix: TernaryMatrix | Tensor, multiplier: float
) -> FloatEmbedding | TernaryEmbedding:
    if isinstance(matrix, Tensor):
        return FloatEmbedding(matrix, multiplier)
    return TernaryEmbedding(matrix, multiplier)


def _head(loader: WeightLoader, matrix: TernaryMatrix | Tensor, norm: NDArray[np.float32]) -> Head:
    plan: DecoderPlan = loader.plan
    eps = plan.description.config.norm_eps
    if not isinstance(matrix, Tensor):
        return TernaryHead(matrix, norm, eps)
    return FloatHead(matrix, norm, eps, loader.screen(matrix) if plan.screened else None)


def _layer(loader: WeightLoader, index: int, plan: LayerPlan) -> DecoderLayer:
    config, names = loader.plan.description.config, loader.plan.description.names
    window = config.window.of_layer(index) if config.window is not None else 0
    parts: dict[str, Any] = {
        **{part: loader.matrix(matrix) for part, matrix in plan.matrices.items()},
        **dict.fromkeys(ALWAYS),
        **_vectors(loader, plan.norms),
    }
    return DecoderLayer(
        **parts,
        activation=config.activation,
        eps=config.norm_eps,
        rotate_first=names.rotate_first,
        projection_norms=_vectors(loader, plan.projection_norms),
        biases=_vectors(loader, plan.biases),
        residual_multiplier=config.residual_multiplier,
        rotary=1 if window else 0,
        window=window,
    )


def _vectors(
    loader: WeightLoader, plans: Mapping[str, VectorPlan]
) -> dict[str, NDArray[np.float32]]:
    return {part: loader.vector(plan) for part, plan in plans.items()}
