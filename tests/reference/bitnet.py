"""A whole `model_type: bitnet` decoder (BitNetForCausalLM) in float64.

Integer products are int64, everything else float64; only the RoPE angle is rounded
to float32, as in training. Both published forms are read: packed two-bit weights
with `weight_scale`, and float master weights put through absmean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import ops
from .checkpoint import Tensor, read_checkpoint
from .ternary import TernaryWeight, absmean, unpack_rows, weight_multiplier

Float64 = npt.NDArray[np.float64]
# One (keys, values) pair a layer, each (positions, kv_heads, head_dim), keys already rotated.
Past = list[tuple[Float64, Float64]]

ACTIVATIONS = {
    "relu2": ops.relu2,
    "silu": ops.silu,
    "gelu": ops.gelu_erf,
    "gelu_pytorch_tanh": ops.gelu_tanh,
}
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class BitNetShape:
    """The numbers of `config.json` that the arithmetic needs."""

    vocab: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    theta: float
    activation: str

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BitNetShape:
        rope = config.get("rope_parameters") or {}
        heads = config["num_attention_heads"]
        return cls(
            vocab=config["vocab_size"],
            hidden=config["hidden_size"],
            ffn=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            eps=config["rms_norm_eps"],
            theta=rope.get("rope_theta", config.get("rope_theta", 500000.0)),
            activation=config.get("hidden_act", "relu2"),
        )


@dataclass(frozen=True)
class ReferenceLayer:
    """One decoder layer: seven ternary matrices and four norm weights."""

    q: TernaryWeight
    k: TernaryWeight
    v: TernaryWeight
    o: TernaryWeight
    gate: TernaryWeight
    up: TernaryWeight
    down: TernaryWeight
    input_norm: Float64
    attention_norm: Float64
    post_norm: Float64
    ffn_norm: Float64


class BitNetReference:
    """A decoder over the tensors of a checkpoint.

    Attributes
    ----------
    shape : BitNetShape
    layers : list of ReferenceLayer
    embedding, head : float64 (vocab, hidden); the same array when the head is tied.
    """

    def __init__(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.config = config
        self.shape = BitNetShape.from_config(config)
        self._linear_class = (config.get("quantization_config") or {}).get("linear_class")
        self.embedding = tensors["model.embed_tokens.weight"].astype(np.float64)
        untied = "lm_head.weight" in tensors and not config.get("tie_word_embeddings")
        self.head = tensors["lm_head.weight"].astype(np.float64) if untied else self.embedding
        self.final_norm = tensors["model.norm.weight"].astype(np.float64)
        self.layers = [self._layer(tensors, index) for index in range(self.shape.layers)]
        self._closest_tie = np.inf

    @classmethod
    def open(cls, directory: Path) -> BitNetReference:
        """Read a checkpoint directory."""
        return cls(*read_checkpoint(directory))

    def _layer(self, tensors: dict[str, Tensor], index: int) -> ReferenceLayer:
        s, prefix = self.shape, f"model.layers.{index}."
        query, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim

        def norm(name: str) -> Float64:
            return tensors[f"{prefix}{name}.weight"].astype(np.float64)

        def linear(name: str, rows: int, columns: int) -> TernaryWeight:
            weight = self._ternary(tensors, f"{prefix}{name}", rows)
            if weight.t.shape != (rows, columns):
                raise ValueError(f"{prefix}{name} is {weight.t.shape}, not {(rows, columns)}")
            return weight

        return ReferenceLayer(
            q=linear("self_attn.q_proj", query, s.hidden),
            k=linear("self_attn.k_proj", kv, s.hidden),
            v=linear("self_attn.v_proj", kv, s.hidden),
            o=linear("self_attn.o_proj", s.hidden, query),
            gate=linear("mlp.gate_proj", s.ffn, s.hidden),
            up=linear("mlp.up_proj", s.ffn, s.hidden),
            down=linear("mlp.down_proj", s.hidden, s.ffn),
            input_norm=norm("input_layernorm"),
            attention_norm=norm("self_attn.attn_sub_norm"),
            post_norm=norm("post_attention_layernorm"),
            ffn_norm=norm("mlp.ffn_sub_norm"),
        )

    def _ternary(self, tensors: dict[str, Tensor], name: str, rows: int) -> TernaryWeight:
        stored = tensors[f"{name}.weight"]
        if stored.dtype != np.uint8:
            return absmean(stored)
        scale = float(tensors[f"{name}.weight_scale"].reshape(-1)[0])
        return TernaryWeight(
            unpack_rows(stored, rows), weight_multiplier(scale, self._linear_class)
        )

    def forward(self, ids: Sequence[int], past: Past | None = None) -> Float64:
        """Logits `(tokens, vocab)` of the tokens `ids`, which follow the positions in `past`.

        `past` starts as an empty list and is extended in place; None recomputes everything.
        """
        return self.hidden(ids, past) @ self.head.T

    def hidden(self, ids: Sequence[int], past: Past | None = None) -> Float64:
        """The normed hidden states `(tokens, hidden)` that the head reads."""
        s = self.shape
        if past is None:
            past = []
        start = past[0][0].shape[0] if past else 0
        if not past:
            empty = np.empty((0, s.kv_heads, s.head_dim))
            past.extend((empty, empty) for _ in self.layers)
        positions = np.arange(start, start + len(ids))
        x = self.embedding[np.asarray(ids, np.int64)]
        for index, layer in enumerate(self.layers):
            x = x + self._attention(layer, x, positions, past, index)
            x = x + self._ffn(layer, x)
        return ops.rms_norm(x, self.final_norm, s.eps)

    def _attention(
        self, layer: ReferenceLayer, x: Float64, positions: Tensor, past: Past, index: int
    ) -> Float64:
        s, tokens = self.shape, len(x)
        normed = ops.rms_norm(x, layer.input_norm, s.eps)
        q = self.project(normed, layer.q).reshape(tokens, s.heads, s.head_dim)
        k = self.project(normed, layer.k).reshape(tokens, s.kv_heads, s.head_dim)
        v = self.project(normed, layer.v).reshape(tokens, s.kv_heads, s.head_dim)
        keys = np.concatenate([past[index][0], ops.rope(k, positions, s.theta)])
        values = np.concatenate([past[index][1], v])
        past[index] = (keys, values)
        mixed = ops.attention(ops.rope(q, positions, s.theta), keys, values)
        flat = mixed.reshape(tokens, s.heads * s.head_dim)
        return self.project(ops.rms_norm(flat, layer.attention_norm, s.eps), layer.o)

    def _ffn(self, layer: ReferenceLayer, x: Float64) -> Float64:
        s = self.shape
        normed = ops.rms_norm(x, layer.post_norm, s.eps)
        gate, up = self.project(normed, layer.gate), self.project(normed, layer.up)
        gated = ACTIVATIONS[s.activation](gate) * up
        return self.project(ops.rms_norm(gated, layer.ffn_norm, s.eps), layer.down)

    def project(self, x: Float64, weight: TernaryWeight) -> Float64:
        """One BitNet projection: int8 per token, an exact integer product, two scales."""
        q, step = ops.quantize_int8(x)
        ties = np.abs(np.abs(x / step) % 1.0 - 0.5)
        self._closest_tie = min(self._closest_tie, float(np.min(ties)))
        # Sums of at most 127 · columns are exact in float64 too, and BLAS is much faster than
        # an integer einsum; `ops.ternary_matmul` says the same in the reference's own tests.
        sums = q.astype(np.float64) @ weight.columns_first
        return sums * step * weight.multiplier

    def closest_tie(self, ids: Sequence[int]) -> float:
        """How close any activation of a pass over `ids` comes to a rounding tie, in int8 steps.

        Two correct implementations in float32 differ by about 1e-5 of a step. Where an
        activation is that close to k + 1/2 they may round it apart, and what follows
        differs by far more than their arithmetic does: see `steady`.
        """
        self._closest_tie = np.inf
        self.hidden(ids)
        return self._closest_tie
