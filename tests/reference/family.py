"""Whole decoders of the families beside `bitnet`, in float64, from their tensors alone.

The parts of a layer are those whose tensors are there: norms of heads and of projections, biases,
sub-norms. What tensors do not show is written out by model_type: the order of RoPE and head norms,
the offset of Gemma's norms, its embedding factor and its windows.

Three kinds of activations, as models are trained or run: "token" (int8, one step a token),
"group64" or "group128" (int8, one step for so many columns), "float" (not rounded).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import ops
from .checkpoint import Tensor, read_checkpoint
from .rope import rope_frequencies, rotate
from .ternary import absmean, unpack_rows, weight_multiplier

Float64 = npt.NDArray[np.float64]

ACTIVATIONS = {
    "relu2": ops.relu2,
    "silu": ops.silu,
    "gelu": ops.gelu_erf,
    "gelu_pytorch_tanh": ops.gelu_tanh,
}
PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
# Names that sub-norms have in one family or another.
ATTENTION_SUB_NORMS = ("self_attn.attn_sub_norm", "self_attn.inner_attn_ln")
FFN_SUB_NORMS = ("mlp.ffn_sub_norm", "mlp.ffn_layernorm")
Q_NORMS = ("self_attn.q_norm", "self_attn.query_layernorm")
K_NORMS = ("self_attn.k_norm", "self_attn.key_layernorm")


@dataclass(frozen=True)
class Vocabulary:
    vocab: int


class FamilyReference:
    """A decoder over the tensors of a checkpoint.

    Parameters
    ----------
    stored : bool
        Whether float weights of projections are taken as they are, not put through absmean.
    activations : "token", "group64", "group128" or "float"
    ternary_head : bool
        Whether the input of the head is rounded like that of a projection.
    """

    def __init__(
        self,
        config: dict[str, Any],
        tensors: dict[str, Tensor],
        *,
        stored: bool = False,
        activations: str = "token",
        ternary_head: bool = False,
    ) -> None:
        self.config, self._tensors = config, tensors
        self._stored, self._activations = stored, activations
        self._ternary_head = ternary_head
        self.shape = Vocabulary(config["vocab_size"])
        self.gemma = config["model_type"] == "gemma3_text"
        self.rotate_first = config["model_type"] == "hunyuan_v1_dense"
        self.prefix = "model." if "model.embed_tokens.weight" in tensors else ""
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        activation = config.get("hidden_activation" if self.gemma else "hidden_act", "silu")
        self.activation = ACTIVATIONS[activation]
        self.layers = [self._weights(index) for index in range(config["num_hidden_layers"])]
        self._closest_tie = np.inf

    @classmethod
    def open(cls, directory: Path, **options: Any) -> FamilyReference:
        """Read a checkpoint directory."""
        return cls(*read_checkpoint(directory), **options)

    def _weights(self, index: int) -> dict[str, Float64]:
        found = {}
        for name, path in PROJECTIONS.items():
            stored = self._tensors[f"{self.prefix}layers.{index}.{path}.weight"]
            if stored.dtype == np.uint8:
                quantization = self.config["quantization_config"]
                scale = self._tensors[f"{self.prefix}layers.{index}.{path}.weight_scale"]
                multiplier = weight_multiplier(
                    float(scale.reshape(-1)[0]), quantization.get("linear_class")
                )
                found[name] = unpack_rows(stored, self._rows(name)) * multiplier
            elif self._stored:
                found[name] = stored.astype(np.float64)
            else:
                ternary = absmean(stored)
                found[name] = ternary.t * ternary.multiplier
        return found

    def _rows(self, name: str) -> int:
        widths = {"q": self.heads * self.head_dim, "o": self.config["hidden_size"]}
        widths |= dict.fromkeys("kv", self.kv_heads * self.head_dim)
        widths |= dict.fromkeys(("gate", "up"), self.config["intermediate_size"])
        return int(widths.get(name, self.config["hidden_size"]))

    def _tensor(self, *names: str) -> Float64 | None:
        for name in names:
            if f"{self.prefix}{name}" in self._tensors:
                return self._tensors[f"{self.prefix}{name}"].astype(np.float64)
        return None

    def _norm(self, x: Float64, *names: str, offset: float | None = None) -> Float64:
        """RMSNorm with the first of these weights that exists; x itself if none does."""
        weight = self._tensor(*(f"{name}.weight" for name in names))
        if weight is None:
            return x
        shift = (1.0 if self.gemma else 0.0) if offset is None else offset
        return ops.rms_norm(x, weight + shift, self.eps)

    def forward(self, ids: Sequence[int]) -> Float64:
        """Logits (tokens, vocab)."""
        head = self._tensors.get("lm_head.weight")
        if head is None or self.config.get("tie_word_embeddings", self.gemma):
            head = self._tensor("embed_tokens.weight")
        hidden = self.hidden(ids)
        if self._ternary_head:
            hidden = self._rounded(hidden)
        return hidden @ np.asarray(head, np.float64).T

    def hidden(self, ids: Sequence[int]) -> Float64:
        """Hidden states after the final norm, (tokens, hidden)."""
        embedding = self._tensor("embed_tokens.weight")
        assert embedding is not None
        x = embedding[np.asarray(ids, np.int64)]
        if self.gemma:
            x = x * math.sqrt(self.config["hidden_size"])
        for index in range(len(self.layers)):
            x = x + self._attention(x, index)
            x = x + self._ffn(x, index)
        return self._norm(x, "norm")

    def _attention(self, x: Float64, index: int) -> Float64:
        at, n = f"layers.{index}", len(x)
        normed = self._norm(x, f"{at}.input_layernorm")
        q = self.project(normed, index, "q").reshape(n, self.heads, self.head_dim)
        k = self.project(normed, index, "k").reshape(n, self.kv_heads, self.head_dim)
        v = self.project(normed, index, "v").reshape(n, self.kv_heads, self.head_dim)
        local = self._is_local(index)
        frequencies, factor = rope_frequencies(self.config, self.head_dim, local=local)

        def heads(value: Float64, names: tuple[str, ...]) -> Float64:
            names = tuple(f"{at}.{name}" for name in names)
            if self.rotate_first:
                return self._norm(rotate(value, frequencies, factor), *names)
            return rotate(self._norm(value, *names), frequencies, factor)

        q, k = heads(q, Q_NORMS), heads(k, K_NORMS)
        scale = self.config.get("query_pre_attn_scalar", 256 if self.gemma else self.head_dim)
        group = self.heads // self.kv_heads
        scores = np.einsum("qhd,khd->hqk", q, np.repeat(k, group, axis=1)) / math.sqrt(scale)
        ahead = np.arange(n)[:, None] - np.arange(n)[None, :]  # how far back each key is
        hidden = ahead < 0
        if local:
            hidden |= ahead >= self.config.get("sliding_window", 4096)
        weights = ops.softmax(np.where(hidden[None], -np.inf, scores))
        mixed = np.einsum("hqk,khd->qhd", weights, np.repeat(v, group, axis=1)).reshape(n, -1)
        mixed = self._norm(mixed, *(f"{at}.{name}" for name in ATTENTION_SUB_NORMS))
        out = self.project(mixed, index, "o")
        return self._norm(out, f"{at}.post_attention_layernorm") if self.gemma else out

    def _is_local(self, index: int) -> bool:
        if not self.gemma:
            return False
        types = self.config.get("layer_types")
        if types:
            return bool(types[index] == "sliding_attention")
        return (index + 1) % self.config.get("sliding_window_pattern", 6) != 0

    def _ffn(self, x: Float64, index: int) -> Float64:
        at = f"layers.{index}"
        before = "pre_feedforward_layernorm" if self.gemma else "post_attention_layernorm"
        normed = self._norm(x, f"{at}.{before}")
        gate, up = self.project(normed, index, "gate"), self.project(normed, index, "up")
        gated = self.activation(gate) * up
        gated = self._norm(gated, *(f"{at}.{name}" for name in FFN_SUB_NORMS))
        out = self.project(gated, index, "down")
        return self._norm(out, f"{at}.post_feedforward_layernorm") if self.gemma else out

    def project(self, x: Float64, index: int, name: str) -> Float64:
        """One projection: its own norm, rounded activations, the product, its bias."""
        path = f"layers.{index}.{PROJECTIONS[name]}"
        x = self._norm(x, f"{path}.norm", offset=0.0)
        out = self._rounded(x) @ self.layers[index][name].T
        bias = self._tensor(f"{path}.bias")
        return out if bias is None else out + bias

    def _rounded(self, x: Float64) -> Float64:
        """What int8 activations stand for."""
        if self._activations == "float":
            return x
        columns = x.shape[-1]
        width = columns if self._activations == "token" else int(self._activations[5:])
        parts = []
        for begin in range(0, columns, width):
            part = x[..., begin : begin + width]
            q, step = ops.quantize_int8(part)
            ties = np.abs(np.abs(part / step) % 1.0 - 0.5)
            self._closest_tie = min(self._closest_tie, float(np.min(ties)))
            parts.append(q * step)
        return np.concatenate(parts, axis=-1)

    def closest_tie(self, ids: Sequence[int]) -> float:
        """How close any activation comes to a rounding tie, in int8 steps; see `steady`."""
        self._closest_tie = np.inf
        self.forward(ids)
        return self._closest_tie
