"""`model_type: bitnet`, architecture BitNetForCausalLM: BitNet b1.58 2B4T (arXiv 2504.12285).

A Llama-like decoder with grouped-query attention, squared ReLU, an extra RMSNorm
before o_proj and before down_proj, and ternary weights in all seven projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedModelError
from ..formats import Checkpoint
from ..kernels.attention import MAX_HEAD_DIM
from ..kernels.decoder import DecoderLayer
from ..kernels.head import MAX_SCREEN_COLUMNS
from ..kernels.ternary_matrix import MAX_COLUMNS
from .base import LoadOptions
from .config import ConfigReader
from .decoder import Decoder
from .embedding import FloatEmbedding
from .head import FloatHead
from .weights import WeightLoader, layouts_of, refuse_unused

__all__ = ["BitNetConfig", "load"]

# Rows of `up` and columns of `down` with at least this many weights, about 512 bytes, are worth
# skipping. Jumping over shorter runs of memory costs as much as reading them.
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
    """The content of config.json. Sizes are in elements, `context_length` is in tokens."""

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
            # the default of transformers differs from the released file; no lm_head means tied
            tied_head=read.boolean("tie_word_embeddings", "lm_head.weight" not in checkpoint)
            or "lm_head.weight" not in checkpoint,
            scale_divides=linear_class != "autobitlinear",
        )


def load(checkpoint: Checkpoint, options: LoadOptions) -> Decoder:
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
    refuse_unused(checkpoint, loader.used, "bitnet")
    screen = loader.screen(head) if hidden <= MAX_SCREEN_COLUMNS else None
    return Decoder(
        "bitnet",
        config,
        FloatEmbedding(embedding),
        layers,
        FloatHead(head, final_norm, config.norm_eps, screen),
        loader.n_parameters,
    )
