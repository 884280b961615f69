"""What config.json says about any decoder. A family adds what is special about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..kernels.attention import MAX_HEAD_DIM
from ..kernels.ternary_matrix import MAX_COLUMNS
from .config_reader import ConfigReader
from .quantization import Quantization, read_quantization
from .rope import Rope, read_rope

__all__ = ["DecoderConfig", "Window", "read_config"]

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
class Window:
    """Layers that see only the last positions.

    Attributes
    ----------
    positions : int
        How many, the token itself included.
    layers : tuple of bool
        For each layer, whether it is such a one.
    rope : Rope
        The position embedding of these layers.
    """

    positions: int
    layers: tuple[bool, ...]
    rope: Rope

    def of_layer(self, index: int) -> int:
        """How many positions a layer sees; 0 means all."""
        return self.positions if self.layers[index] else 0


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes and numbers of a decoder. Sizes are in elements, `context_length` is in tokens.

    Attributes
    ----------
    activation : a key of kernels.linear.ACTIVATIONS
        Applied to the gate of the feed-forward block.
    tied_head : bool
        Whether the embedding is the matrix of the output head, too.
    attention_bias, mlp_bias : bool
        Whether q, k, v and o, and gate, up and down have a bias.
    quantization : Quantization
        How weights are stored.
    interleaved : bool
        Whether rows of q and k are in the order of llama.cpp's arch `llama` (only in GGUF files).
    score_scale : float or None
        Factor of q·k in attention. None: 1 / sqrt(head_dim).
    norm_offset : float
        Added to the stored weights of the norms of the residual stream, heads and output.
    embedding_multiplier, residual_multiplier, logits_multiplier : float
        Factors of the embedding, of what each block adds to the residual stream, and of logits.
    window : Window or None
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    rope: Rope
    activation: str
    tied_head: bool
    attention_bias: bool
    mlp_bias: bool
    quantization: Quantization
    interleaved: bool = False
    score_scale: float | None = None
    norm_offset: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_multiplier: float = 1.0
    window: Window | None = None

    @property
    def rope_theta(self) -> float:
        """The base of RoPE's frequencies."""
        return self.rope.theta

    @property
    def q_width(self) -> int:
        """Elements of all query heads of a token."""
        return self.n_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of all key heads of a token, and of all value heads."""
        return self.n_kv_heads * self.head_dim


def read_config(
    read: ConfigReader,
    architectures: Sequence[str],
    *,
    activation: str = "silu",
    activation_key: str = "hidden_act",
    rope_theta: float = 10000.0,
    context_length: int = 2048,
    norm_eps: float = 1e-6,
    head_dim: int | None = None,
    tied: bool = False,
    headless: bool = False,
) -> DecoderConfig:
    """Read and check config.json. Call `read.refuse_unread()` when all of it has been read.

    Parameters
    ----------
    architectures : sequence of str
        Classes of transformers that compute what the family computes.
    activation, rope_theta, context_length, norm_eps, head_dim, tied
        What the family's class in transformers takes if the key is missing. `head_dim` None:
        hidden_size / num_attention_heads. Without `lm_head.weight` in the file, a head whose key is
        missing is tied.
    headless : bool
        Whether the model was trained without an output head, so that config.json may say that the
        head is not tied, and there is none.

    Raises
    ------
    FormatError, UnsupportedModelError
        The message names the key and its value.
    """
    _check_architectures(read, architectures)
    function = read.value(activation_key, activation)
    if not isinstance(function, str) or function not in ACTIVATIONS:
        raise read.unsupported(activation_key, function, f"supported are {', '.join(ACTIVATIONS)}")
    heads, hidden = read.integer("num_attention_heads"), read.integer("hidden_size", high=1 << 18)
    kv_heads = read.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise read.wrong(
            "num_key_value_heads", kv_heads, f"a divisor of num_attention_heads {heads}"
        )
    if "head_dim" not in read and head_dim is None and hidden % heads:
        raise read.wrong("hidden_size", hidden, f"a multiple of num_attention_heads {heads}")
    head_dim = read.integer("head_dim", head_dim or hidden // heads, high=MAX_HEAD_DIM)
    if heads * head_dim > MAX_COLUMNS:
        raise read.wrong("head_dim", head_dim, f"at most {MAX_COLUMNS // heads} for {heads} heads")
    if head_dim % 2:
        raise read.wrong("head_dim", head_dim, "even")
    context = read.integer("max_position_embeddings", context_length, high=1 << 20)
    return DecoderConfig(
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.integer("intermediate_size", high=1 << 18),
        n_layers=read.integer("num_hidden_layers", high=1024),
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        context_length=context,
        norm_eps=read.positive("rms_norm_eps", norm_eps, high=1.0),
        rope=read_rope(read, rope_theta, context, "full_attention"),
        activation=ACTIVATIONS[function],
        tied_head=_tied(read, tied, headless),
        attention_bias=read.boolean("attention_bias", False),
        mlp_bias=read.boolean("mlp_bias", False),
        quantization=read_quantization(read),
        interleaved=read.boolean("rope_interleave", False),
    )


def _check_architectures(read: ConfigReader, supported: Sequence[str]) -> None:
    found = read.value("architectures")
    if found is not None and (not isinstance(found, list) or len(found) != 1):
        raise read.unsupported("architectures", found, "one name is expected")
    if found is not None and found[0] not in supported:
        names = ", ".join(repr([name]) for name in supported)
        raise read.unsupported("architectures", found, f"supported are {names}")


def _tied(read: ConfigReader, default: bool, headless: bool) -> bool:
    stored = "lm_head.weight" in read.checkpoint
    if "tie_word_embeddings" not in read:
        return default or not stored
    tied = read.boolean("tie_word_embeddings", default)
    if headless and not stored:
        return True
    if not tied and not stored:
        raise read.wrong("tie_word_embeddings", tied, "true, or lm_head.weight must be stored")
    return tied
