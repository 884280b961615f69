"""From the keys of a GGUF file to those of config.json.

Keys: gguf-py/gguf/constants.py of llama.cpp. Values that are not in a file are those that
llama.cpp assumes (src/llama-model.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FormatError
from ..formats import Checkpoint
from .gguf_architectures import ARCHITECTURES
from .gguf_values import MetadataReader

__all__ = ["config_of"]

# Of Gemma 3, in llama.cpp: each sixth layer sees everything, the others a window, with this base.
GEMMA_PATTERN = 6
GEMMA_LOCAL_THETA = 10000.0


def config_of(checkpoint: Checkpoint, architecture: str) -> dict[str, Any]:
    """The keys of config.json that the metadata and the tensors of a GGUF checkpoint imply.

    Parameters
    ----------
    architecture : key of ARCHITECTURES

    Raises
    ------
    FormatError
        A key that is needed is missing, or has an impossible value.
    UnsupportedModelError
        The model needs what no family computes.
    """
    kind = ARCHITECTURES[architecture]
    read = MetadataReader(checkpoint)
    heads, hidden = read.integer("attention.head_count"), read.integer("embedding_length")
    if read.value("attention.key_length") is None and hidden % heads:
        raise read.wrong("embedding_length", hidden, f"a multiple of {heads} heads")
    head_dim = read.integer("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if read.integer(key, head_dim) != head_dim:
            raise read.unsupported(
                key, read.value(key), f"only the head size {head_dim} is supported"
            )
    context = read.integer("context_length")
    embedding = checkpoint.info("token_embd.weight")
    if len(embedding.shape) != 2:
        raise FormatError(
            f"{embedding.file}: tensor {embedding.name!r}: expected shape (tokens, {hidden}), "
            f"found {embedding.shape}"
        )
    config: dict[str, Any] = {
        "model_type": kind.model_type,
        "architectures": [kind.class_name],
        "hidden_act": kind.activation,
        # metadata may say more or fewer tokens than the embedding has rows
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": read.integer("feed_forward_length"),
        "num_hidden_layers": read.integer("block_count", high=1024),
        "num_attention_heads": heads,
        "num_key_value_heads": read.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rms_norm_eps": read.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": read.number("rope.freq_base", 10000.0),
        "rope_interleave": kind.interleaved,
        "tie_word_embeddings": "output.weight" not in checkpoint,
        **_ids(read),
    }
    if (scaling := _rope_scaling(read, context)) is not None:
        config["rope_scaling"] = scaling
    if any(
        checkpoint.info(name).dtype == "I2_S" or name.endswith(".scale")
        for name in checkpoint.names
    ):
        # Both belong to BitNet, whose products quantise activations for each token. In all of GGUF,
        # scales multiply.
        config["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    if architecture == "gemma3":
        config.update(_gemma(read, config))
    elif (window := read.integer("attention.sliding_window", 0, low=0)) and window < context:
        raise read.unsupported("attention.sliding_window", window, "not supported")
    return config


def _rope_scaling(read: MetadataReader, context: int) -> dict[str, Any] | None:
    # an older key for the same; 0 means that there is none
    given = read.value("rope.scaling.factor") not in (None, 0)
    factor = read.number("rope.scaling.factor" if given else "rope.scale_linear", 1.0)
    kind = read.text("rope.scaling.type", "linear")
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise read.unsupported(
            "rope.scaling.type", kind, "only none, linear and yarn are supported"
        )
    scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": read.integer(
            "rope.scaling.original_context_length", context
        ),
    }
    for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if read.value(f"rope.scaling.{key}") is not None:
            scaling[name] = read.number(f"rope.scaling.{key}")
    return scaling


def _ids(read: MetadataReader) -> dict[str, Any]:
    """Special tokens, as far as they are given. Ids outside the vocabulary are found later."""
    found: dict[str, Any] = {}
    for name, key in (("bos_token_id", "bos_token_id"), ("pad_token_id", "padding_token_id")):
        if read.value(f"tokenizer.ggml.{key}") is not None:
            found[name] = read.integer(f"tokenizer.ggml.{key}", low=0)
    ends = [f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom")]
    ids = [read.integer(key, low=0) for key in ends if read.value(key) is not None]
    if ids:
        found["eos_token_id"] = list(dict.fromkeys(ids))
    return found


def _gemma(read: MetadataReader, config: Mapping[str, Any]) -> dict[str, Any]:
    layers, head_dim = config["num_hidden_layers"], config["head_dim"]
    window = read.integer("attention.sliding_window", 0, low=0)
    pattern = read.integer("attention.sliding_window_pattern", GEMMA_PATTERN)
    full = [not window or (index + 1) % pattern == 0 for index in range(layers)]
    found = {
        "hidden_activation": config["hidden_act"],
        "query_pre_attn_scalar": head_dim,
        "norm_offset": 0.0,
        "layer_types": ["full_attention" if each else "sliding_attention" for each in full],
    }
    if window:
        found["sliding_window"] = window
        found["rope_local_base_freq"] = read.number("rope.freq_base_swa", GEMMA_LOCAL_THETA)
    return found
