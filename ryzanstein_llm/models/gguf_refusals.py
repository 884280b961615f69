"""What families cannot compute although the container is well formed: keys and types of GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedModelError
from ..formats import Checkpoint

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

# Keys whose presence means another kind of file, by their beginning.
FOREIGN = {
    "prism.hadamard.": "weights in a rotated basis (Hadamard transform) are not supported",
    "oxibonsai.quant_format": "this variant of Q2_0 is not supported",
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
    "attention.scale": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.yarn_attn_factor": (0, 1),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
}


def refuse_keys(checkpoint: Checkpoint, architecture: str) -> None:
    """Refuse files whose metadata say that their weights or their graph are something else.

    Raises
    ------
    UnsupportedModelError
        The message names the key and the value.
    """
    metadata = checkpoint.metadata
    assert metadata is not None

    def refuse(key: str, why: str) -> UnsupportedModelError:
        value = repr(metadata[key])
        return UnsupportedModelError(
            f"{checkpoint.path}: metadata {key[:200]!r} {value[:200]}: {why}"
        )

    for key in metadata:
        for start, why in FOREIGN.items():
            if key.startswith(start):
                raise refuse(key, why)
        if ".ssm." in key:
            raise refuse(key, "linear recurrences are not supported")
    for key in ("general.name", "general.basename"):
        if any(word in str(metadata.get(key, "")).lower() for word in ("vibevoice", "vibeasr")):
            raise refuse(key, "speech models are not supported")
    if metadata.get("general.type", "model") != "model":
        raise refuse("general.type", "only 'model' is supported")
    if metadata.get("general.quantization_version") == "TQ2_0_G128":
        raise refuse("general.quantization_version", "this variant of Q2_0 is not supported")
    if str(metadata.get("general.quantization_provenance", "")).startswith("fermion-"):
        raise refuse("general.quantization_provenance", "weights have five values, not three")
    prefix = f"{metadata['general.architecture']}."
    for suffix, neutral in NEUTRAL.items():
        key = prefix + suffix
        if key in metadata and not _is_one_of(metadata[key], neutral):
            raise refuse(key, "not supported")


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    return isinstance(value, (bool, int, float)) and value in neutral


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
                f"{checkpoint.path}: tensor {name[:200]!r}: type {dtype} is {reason}"
            )
