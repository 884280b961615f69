"""`model_type: bitnet`, architecture BitNetForCausalLM: BitNet b1.58 2B4T (arXiv 2504.12285).

A Llama-like decoder with grouped-query attention, squared ReLU, an extra RMSNorm
before o_proj and before down_proj, and ternary weights in all seven projections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout
from ..kernels.attention import MAX_HEAD_DIM
from ..kernels.decoder import DecoderLayer, decoder_layers
from ..kernels.elementwise import inverse_square_root
from ..kernels.head import MAX_SCREEN_COLUMNS, ScreenedHead
from ..kernels.linear import MAX_COLUMNS
from ..kernels.workspace import Workspace
from .base import ConfigReader, Float32, LoadOptions, RotaryTable, Segment
from .head import FloatHead
from .weights import WeightLoader, format_of, layouts_of

__all__ = ["BitNetConfig", "BitNetForCausalLM", "load", "refuse_unused"]

# Tokens times layers of one compute call. All layers of a token go together; a call of a prompt
# ends soon enough for Ctrl-C.
TOGETHER = 64

# Rows of `up` and columns of `down` of so many weights, about 512 bytes, are long enough to be
# worth leaving out; shorter runs of memory cost as much to jump over as to read.
SKIPPING_PAYS = 2048

# hidden_act of config.json -> name of the kernel
ACTIVATIONS = {
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


@dataclass(frozen=True)
class BitNetConfig:
    """What config.json says; sizes in elements, `context_length` in tokens."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    rope_theta: float
    activation: str
    tied_head: bool
    scale_divides: bool

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> BitNetConfig:
        """Read and check config.json.

        Raises
        ------
        FormatError, UnsupportedModelError
        """
        read = ConfigReader(checkpoint)

        def refuse(key: str, value: Any, why: str) -> UnsupportedModelError:
            return UnsupportedModelError(f"{checkpoint.path}: config.json: {key} {value!r}: {why}")

        architectures = read.value("architectures", ["BitNetForCausalLM"])
        if architectures != ["BitNetForCausalLM"]:
            raise refuse("architectures", architectures, "only ['BitNetForCausalLM'] is supported")
        activation = read.value("hidden_act", "relu2")
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise refuse("hidden_act", activation, f"supported are {', '.join(ACTIVATIONS)}")
        if read.boolean("attention_bias", False):
            raise refuse("attention_bias", True, "projections with a bias are not supported")

        rope = {**read.section("rope_scaling"), **read.section("rope_parameters")}
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type != "default":
            raise refuse("rope_type", rope_type, "only 'default' is supported")
        theta = read.positive("rope_theta", 500000.0, source=rope.get("rope_theta"))

        quantization = read.section("quantization_config")
        method = quantization.get("quant_method", "bitnet")
        if method != "bitnet":
            raise refuse("quantization_config.quant_method", method, "only 'bitnet' is supported")
        linear_class = quantization.get("linear_class", "bitlinear")
        if linear_class not in ("bitlinear", "autobitlinear"):
            raise refuse("quantization_config.linear_class", linear_class, "unknown")
        if quantization.get("use_rms_norm"):
            raise refuse("quantization_config.use_rms_norm", True, "not supported")
        if quantization.get("modules_to_not_convert") not in (None, [], ["lm_head"]):
            kept = quantization["modules_to_not_convert"]
            raise refuse("quantization_config.modules_to_not_convert", kept, "not supported")

        heads, hidden = (
            read.integer("num_attention_heads"),
            read.integer("hidden_size", high=1 << 18),
        )
        kv_heads = read.integer("num_key_value_heads", heads)
        if heads % kv_heads:
            raise read.wrong(
                "num_key_value_heads", kv_heads, f"a divisor of num_attention_heads {heads}"
            )
        if read.value("head_dim") is None and hidden % heads:
            raise read.wrong("hidden_size", hidden, f"a multiple of num_attention_heads {heads}")
        head_dim = read.integer("head_dim", hidden // heads, high=MAX_HEAD_DIM)
        if heads * head_dim > MAX_COLUMNS:
            raise read.wrong(
                "head_dim", head_dim, f"at most {MAX_COLUMNS // heads} for {heads} heads"
            )
        if theta < 1:
            raise read.wrong("rope_theta", theta, "at least 1")
        if head_dim % 2:
            raise read.wrong("head_dim", head_dim, "even")
        return cls(
            vocab_size=read.integer("vocab_size"),
            hidden_size=hidden,
            intermediate_size=read.integer("intermediate_size", high=1 << 18),
            n_layers=read.integer("num_hidden_layers", high=1024),
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=head_dim,
            context_length=read.integer("max_position_embeddings", 2048, high=1 << 20),
            norm_eps=read.positive("rms_norm_eps", 1e-5),
            rope_theta=theta,
            activation=ACTIVATIONS[activation],
            # the class default differs from the released file; no lm_head means tied
            tied_head=read.boolean("tie_word_embeddings", "lm_head.weight" not in checkpoint)
            or "lm_head.weight" not in checkpoint,
            scale_divides=linear_class != "autobitlinear",
        )


class BitNetForCausalLM:
    """The graph. See `base.CausalLM` for the interface."""

    family = "bitnet"

    def __init__(
        self,
        config: BitNetConfig,
        embedding: Tensor,
        layers: list[DecoderLayer],
        final_norm: Float32,
        head: Tensor,
        screen: ScreenedHead | None,
        n_parameters: int,
    ) -> None:
        self.config = config
        self.embedding, self.layers = embedding, layers
        self.head = FloatHead(head, final_norm, config.norm_eps, screen)
        self.n_parameters = n_parameters
        self.score_scale = inverse_square_root(config.head_dim)
        self.rotary = RotaryTable(config.rope_theta, config.head_dim, config.context_length)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, in memory or mapped."""
        matrices = sum(matrix.nbytes for layer in self.layers for matrix in layer.matrices)
        tied = self.head.matrix is self.embedding
        head = 0 if tied else self.head.matrix.array.nbytes
        return matrices + self.embedding.array.nbytes + head + self.head.screen_bytes

    @property
    def weight_format(self) -> str:
        """How ternary weights are kept."""
        return format_of(self.layers[0].q)

    def kv_layout(self, kind: str) -> KVLayout:
        config = self.config
        return KVLayout(kind, config.n_layers, config.n_kv_heads, config.head_dim)

    def hidden_states(
        self,
        ids: NDArray[np.int64],
        segments: Sequence[Segment],
        layout: KVLayout,
        space: Workspace,
        between: Callable[[], None] | None = None,
    ) -> Float32:
        config, n = self.config, len(ids)
        q_width = config.n_heads * config.head_dim
        kv_width = config.n_kv_heads * config.head_dim
        rotary = self.rotary.upto(max(position + rows for rows, position, _ in segments))

        hidden = self._embed(ids)  # (n, hidden): the residual stream
        qkv = np.empty((n, q_width + 2 * kv_width), np.float32)
        attended = np.empty((n, q_width), np.float32)
        gated = np.empty((n, config.intermediate_size), np.float32)
        together = max(1, TOGETHER // n)
        for first in range(0, config.n_layers, together):
            if between is not None and first:
                between()
            decoder_layers(
                hidden, self.layers[first : first + together], first, segments, layout,
                config.n_heads, rotary, self.score_scale, qkv, attended, gated, space,
            )  # fmt: skip
        return hidden

    def logits(self, hidden: Float32, space: Workspace) -> Float32:
        return self.head.logits(hidden, space)

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], space: Workspace
    ) -> list[Candidates]:
        return self.head.candidates(hidden, queries, space)

    def _embed(self, ids: NDArray[np.int64]) -> Float32:
        rows = self.embedding.array[ids]
        if self.embedding.dtype == "BF16":
            return (rows.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return rows.astype(np.float32)


def load(checkpoint: Checkpoint, options: LoadOptions) -> BitNetForCausalLM:
    """Read the weights of a `bitnet` checkpoint. See `models.load_model`."""
    config = BitNetConfig.from_checkpoint(checkpoint)
    layouts = layouts_of(options.weight_format, config.hidden_size)
    loader = WeightLoader(
        checkpoint, options, config.scale_divides, 7 * config.n_layers, layouts.whole
    )
    hidden, ffn = config.hidden_size, config.intermediate_size
    q_width, kv_width = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    skipping = options.skipping
    if skipping is None:
        skipping = hidden >= SKIPPING_PAYS
    skipping &= config.activation == "relu2"

    embedding = loader.dense("model.embed_tokens.weight", config.vocab_size, hidden)
    head = (
        embedding if config.tied_head else loader.dense("lm_head.weight", config.vocab_size, hidden)
    )
    layers = []
    for index in range(config.n_layers):
        at = f"model.layers.{index}"
        layers.append(
            DecoderLayer(
                input_norm=loader.vector(f"{at}.input_layernorm.weight", hidden),
                q=loader.ternary(f"{at}.self_attn.q_proj", q_width, hidden),
                k=loader.ternary(f"{at}.self_attn.k_proj", kv_width, hidden),
                v=loader.ternary(f"{at}.self_attn.v_proj", kv_width, hidden),
                attention_sub_norm=loader.vector(f"{at}.self_attn.attn_sub_norm.weight", q_width),
                o=loader.ternary(f"{at}.self_attn.o_proj", hidden, q_width),
                post_attention_norm=loader.vector(f"{at}.post_attention_layernorm.weight", hidden),
                activation=config.activation,
                eps=config.norm_eps,
                gate=loader.ternary(f"{at}.mlp.gate_proj", ffn, hidden),
                up=loader.ternary(
                    f"{at}.mlp.up_proj", ffn, hidden, layouts.rows if skipping else None
                ),
                ffn_sub_norm=loader.vector(f"{at}.mlp.ffn_sub_norm.weight", ffn),
                down=loader.ternary(
                    f"{at}.mlp.down_proj", hidden, ffn, layouts.columns if skipping else None
                ),
            )
        )
    final_norm = loader.vector("model.norm.weight", hidden)
    refuse_unused(checkpoint, loader.used)
    screen = loader.screen(head) if hidden <= MAX_SCREEN_COLUMNS else None
    return BitNetForCausalLM(
        config, embedding, layers, final_norm, head, screen, loader.n_parameters
    )


def refuse_unused(checkpoint: Checkpoint, used: set[str]) -> None:
    """A tensor this graph has no place for means another graph: refuse, rather than ignore it.

    Raises
    ------
    UnsupportedModelError
        The checkpoint holds a tensor whose name is not in `used`.
    """
    harmless = ("lm_head.weight", ".rotary_emb.inv_freq")  # a tied head written twice; derived
    unused = [name for name in checkpoint.names if name not in used and not name.endswith(harmless)]
    if unused:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {len(unused)} tensors have no place in a bitnet model, "
            f"the first is {unused[0]!r}"
        )
