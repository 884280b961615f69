"""What families cannot compute although the container is well formed: keys and types of GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedModelError
from ..formats import Checkpoint
from .gguf_values import MetadataReader, shown

__all__ = ["BLOCK_FLOATS", "FLOATS", "TERNARY", "refuse_keys", "refuse_types"]

FLOATS = ("F32", "F16", "BF16")
BLOCK_FLOATS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0")  # `Checkpoint.floats` decodes them
TERNARY = (
    "I2_S", "TQ1_0", "TQ2_0", "Q2_0", "PQ2_0", "PTQ1_0", "STQ1_0", "IQ1_BN", "IQ2_BN",
)  # fmt: skip

TILED = "not supported: the order of its weights depends on settings that are not in the file"
REASONS = {
    "Q1_0": "binary, not ternary",
    "TL1": TILED,
    "TL2": TILED,
    "I8_S": "of eight bits, not ternary",
    "IQ2_BN_R4": "a form of IQ2_BN with four rows interleaved; use IQ2_BN",
}

OTHER_Q2_0 = "this variant of Q2_0 is not supported"

# Keys whose presence means another kind of file, by their beginning.
FOREIGN = {
    "prism.hadamard.": "weights in a rotated basis (Hadamard transform) are not supported",
    "oxibonsai.quant_format": OTHER_Q2_0,
    "clip.": "vision and audio encoders are not supported",
    "vibevoice": "speech models are not supported",
    "vibeasr": "speech models are not supported",
}
# Keys of an architecture that change what the graph computes -> values that change nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_shared_count": (0,),
    "nextn_predict_layers": (0,),
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.output_scale": (0, 1),
    "attention.scale": (0,),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "use_parallel_residual": (False,),
    "rope.scaling.alpha": (0,),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.yarn_attn_factor": (0, 1),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
}


def refuse_keys(checkpoint: Checkpoint) -> None:
    """Refuse files whose metadata say that their weights or their graph are something else.

    Raises
    ------
    UnsupportedModelError
        The message names the key and the value.
    FormatError
        A value is of another kind than that of its key.
    """
    assert checkpoint.metadata is not None
    read = MetadataReader(checkpoint)
    for key in checkpoint.metadata:
        for start, why in FOREIGN.items():
            if key.startswith(start):
                raise UnsupportedModelError(
                    f"{checkpoint.path}: metadata {shown(key)} {shown(checkpoint.metadata[key])}: "
                    f"{why}"
                )
    for key in ("general.name", "general.basename"):
        name = read.text(key, "")
        if any(word in name.lower() for word in ("vibevoice", "vibeasr")):
            raise read.unsupported(key, name, "speech models are not supported")
    if (kind := read.text("general.type", "model")) != "model":
        raise read.unsupported("general.type", kind, "only 'model' is supported")
    if (version := read.value("general.quantization_version")) == "TQ2_0_G128":
        raise read.unsupported("general.quantization_version", version, OTHER_Q2_0)
    origin = read.text("general.quantization_provenance", "")
    if origin.startswith("fermion-"):
        why = "weights have five values, not three"
        raise read.unsupported("general.quantization_provenance", origin, why)
    for key, neutral in NEUTRAL.items():
        value = read.value(key)
        if value is not None and value not in neutral:
            raise read.unsupported(key, value, "not supported")


def refuse_types(checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
    """Refuse tensors of types that are not read where they stand: projections are ternary or
    float, embedding and head also of the block types that `Checkpoint.floats` decodes, everything
    else is float.

    Parameters
    ----------
    names
        Of all tensors: in the file, in the family.

    Raises
    ------
    UnsupportedModelError
        The message names the tensor and the type.
    """
    for name, translated in names.items():
        dtype = checkpoint.info(name).dtype
        allowed: tuple[str, ...] = FLOATS
        if translated.endswith("_proj.weight"):
            allowed = (*FLOATS, *TERNARY)
        elif translated in ("model.embed_tokens.weight", "lm_head.weight"):
            allowed = (*FLOATS, *TERNARY, *BLOCK_FLOATS)
        if dtype not in allowed:
            reason = REASONS.get(dtype, "not ternary" if allowed != FLOATS else "not float")
            raise UnsupportedModelError(
                f"{checkpoint.path}: tensor {shown(name)}: type {dtype} is {reason}"
            )
