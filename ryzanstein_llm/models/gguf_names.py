"""From the names and keys of a GGUF file to those that families know, which are Hugging Face's.

Names: gguf-py/gguf/tensor_mapping.py of llama.cpp, and for the norms of bitnet-embedding
utils/convert-bitnet-embedding-to-gguf.py of microsoft/BitNet.
"""

from __future__ import annotations

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint
from .gguf_architectures import ARCHITECTURES, Architecture, architecture_of
from .gguf_config import config_of
from .gguf_refusals import refuse_keys, refuse_types
from .gguf_sampling import generation_config_of
from .gguf_values import MetadataReader, shown

__all__ = ["PROJECTIONS", "translate"]

PROJECTIONS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

# The chat template in Microsoft's GGUF files of BitNet 2B-4T is of an earlier model: "Human: ...
# BITNETAssistant:". This is how the model was trained (transformers, docs of BitNet).
WRONG_TEMPLATE = "BITNETAssistant"
RIGHT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def translate(checkpoint: Checkpoint) -> Checkpoint:
    """A GGUF checkpoint as families read it: `config` with the keys of config.json, tensors by the
    names of the Hugging Face model, and the chat template. Another checkpoint is returned as it is.

    Tensors keep their data. These things differ from a Hugging Face checkpoint, and the config
    says so:

    - `rope_interleave` true: the rows of q and k are in the order of llama.cpp's arch `llama`,
      where neighbours (2i, 2i + 1) of a head are rotated together, and not i and i + head_dim / 2.
    - `norm_offset` 0 (Gemma): the norms have 1 added already.
    - `quantization_config` is there if the file tells that activations are int8 for each token.

    Ids of `tokenizer.ggml` are in `bos_token_id`, `pad_token_id` and `eos_token_id` (a list).

    Raises
    ------
    UnsupportedModelError
        The architecture, a key or the type of a tensor means something that families cannot
        compute; the message names it and its value.
    FormatError
        A key that is needed is missing or has an impossible value, or there is no embedding.
    """
    if checkpoint.metadata is None:
        return checkpoint
    architecture = architecture_of(checkpoint)
    refuse_keys(checkpoint)
    names = _translated_names(checkpoint, ARCHITECTURES[architecture])
    refuse_types(checkpoint, names)
    if "token_embd.weight" not in checkpoint:
        raise FormatError(f"{checkpoint.path}: tensor 'token_embd.weight' is missing")
    config = config_of(checkpoint, architecture)
    generation_config = generation_config_of(checkpoint)
    return checkpoint.renamed(names, config, generation_config, _chat_template(checkpoint))


def _translated_names(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, str]:
    """The name that families use for each tensor of the file."""
    names, unknown = {}, []
    for name in checkpoint.names:
        translated = _translated(name, architecture)
        if translated is None:
            unknown.append(name)
        else:
            names[name] = translated
    if unknown:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {len(unknown)} tensors have no place in a "
            f"{architecture.model_type} model, the first is {shown(unknown[0])}"
        )
    return names


def _translated(name: str, architecture: Architecture) -> str | None:
    if name in OUTSIDE_LAYERS:
        return OUTSIDE_LAYERS[name]
    match name.split("."):
        case ["blk", layer, part, kind] if layer.isascii() and layer.isdecimal():
            translated = _part(part, kind, architecture)
            return None if translated is None else f"model.layers.{layer}.{translated}"
    return None


def _part(part: str, kind: str, architecture: Architecture) -> str | None:
    if part in PROJECTIONS and kind in ("weight", "bias"):
        return f"{PROJECTIONS[part]}.{kind}"
    if part in PROJECTIONS and kind == "scale":  # of weights -1, 0 and 1: multiplies
        return f"{PROJECTIONS[part]}.weight_scale"
    if kind != "weight":
        return None
    if part in architecture.norms:
        return f"{architecture.norms[part]}.weight"
    projection = PROJECTIONS.get(part.removesuffix("_norm_in"))
    if part.endswith("_norm_in") and projection is not None:
        return f"{projection}.norm.weight"
    return None


def _chat_template(checkpoint: Checkpoint) -> str | None:
    read = MetadataReader(checkpoint)
    if read.value("tokenizer.chat_template") is None:
        return None
    template = read.text("tokenizer.chat_template")
    return RIGHT_TEMPLATE if WRONG_TEMPLATE in template else template
