"""From weights to a decoder, as its plan says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor
from ..kernels.decoder_layer import DecoderLayer
from ..kernels.head import ScreenedHead
from ..kernels.ternary_matrix import TernaryMatrix
from .decoder import Decoder
from .embedding import FloatEmbedding, TernaryEmbedding
from .head import FloatHead, Head, TernaryHead
from .plan import DecoderPlan, MatrixPlan, VectorPlan

__all__ = ["build_decoder"]

ALWAYS = ("input_norm", "attention_sub_norm", "post_attention_norm", "ffn_sub_norm")
"""Norms that `DecoderLayer` wants to be told about, as None if there is none."""

Matrices = Mapping[MatrixPlan, TernaryMatrix | Tensor]
Vectors = Mapping[VectorPlan, NDArray[np.float32]]


def build_decoder(
    plan: DecoderPlan, matrices: Matrices, vectors: Vectors, screen: ScreenedHead | None
) -> Decoder:
    """A decoder of the matrices, norms and biases of a plan, and of the screen of its head."""
    description, config = plan.description, plan.description.config
    embedding = matrices[plan.embedding]
    head = embedding if plan.head is None else matrices[plan.head]
    return Decoder(
        description.family,
        config,
        _embedding(embedding, config.embedding_multiplier),
        [_layer(plan, index, matrices, vectors) for index in range(config.n_layers)],
        _head(head, vectors[plan.final_norm], config.norm_eps, screen),
        plan.n_parameters,
        generates=description.generates,
    )


def _embedding(
    matrix: TernaryMatrix | Tensor, multiplier: float
) -> FloatEmbedding | TernaryEmbedding:
    if isinstance(matrix, Tensor):
        return FloatEmbedding(matrix, multiplier)
    return TernaryEmbedding(matrix, multiplier)


def _head(
    matrix: TernaryMatrix | Tensor,
    norm: NDArray[np.float32],
    eps: float,
    screen: ScreenedHead | None,
) -> Head:
    if isinstance(matrix, Tensor):
        return FloatHead(matrix, norm, eps, screen)
    return TernaryHead(matrix, norm, eps)


def _layer(plan: DecoderPlan, index: int, matrices: Matrices, vectors: Vectors) -> DecoderLayer:
    layer, config, names = plan.layers[index], plan.description.config, plan.description.names
    window = config.window.of_layer(index) if config.window is not None else 0

    def chosen(plans: Mapping[str, VectorPlan]) -> dict[str, NDArray[np.float32]]:
        return {part: vectors[vector] for part, vector in plans.items()}

    parts: dict[str, Any] = {
        **{part: matrices[matrix] for part, matrix in layer.matrices.items()},
        **dict.fromkeys(ALWAYS),
        **chosen(layer.norms),
    }
    return DecoderLayer(
        **parts,
        activation=config.activation,
        eps=config.norm_eps,
        rotate_first=names.rotate_first,
        projection_norms=chosen(layer.projection_norms),
        biases=chosen(layer.biases),
        residual_multiplier=config.residual_multiplier,
        rotary=1 if window else 0,
        window=window,
    )
