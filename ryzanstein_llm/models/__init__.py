"""Model families: one file each, named after the `model_type` of config.json.

A family reads its config and gets its tensors by name. It knows no file formats and no
instruction sets.
"""

from __future__ import annotations

import importlib

from ..errors import UnsupportedModelError
from ..formats import Checkpoint
from .base import CausalLM, LoadOptions, refuse_embedding_model
from .description import Description
from .kernel_uses import kernel_uses
from .loader import DecoderLoader
from .plan import WEIGHT_FORMATS, DecoderPlan, plan_decoder

__all__ = [
    "WEIGHT_FORMATS",
    "CausalLM",
    "DecoderLoader",
    "DecoderPlan",
    "LoadOptions",
    "describe_model",
    "kernel_uses",
    "plan_model",
    "prepare_model",
    "refuse_embedding_model",
]

# model_type -> module, with a function `describe`; a dot means a module of this folder
FAMILIES = {
    "bitnet": ".bitnet",
    "gemma3_text": ".gemma3_text",
    "hunyuan_v1_dense": ".hunyuan_v1_dense",
    "llama": ".llama",
    "qwen2": ".qwen2",
    "qwen3": ".qwen3",
}


def describe_model(checkpoint: Checkpoint) -> Description:
    """What a checkpoint says about its model. No tensor data are read.

    Raises
    ------
    UnsupportedModelError
        If the family, or something the config asks for, is not supported.
    FormatError
        If the config holds impossible values.
    """
    model_type = checkpoint.config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"{checkpoint.path}: model_type {model_type!r} is not supported; "
            f"supported: {', '.join(repr(name) for name in FAMILIES)}"
        )
    family = importlib.import_module(FAMILIES[model_type], __name__)
    description: Description = family.describe(checkpoint)
    return description


def plan_model(checkpoint: Checkpoint, options: LoadOptions) -> DecoderPlan:
    """Which tensors `prepare_model` will read, and in which layouts they will be kept. Errors: as
    there, as far as they show without reading more than that decides."""
    return plan_decoder(checkpoint, options, describe_model(checkpoint))


def prepare_model(
    checkpoint: Checkpoint, options: LoadOptions, plan: DecoderPlan | None = None
) -> DecoderLoader:
    """What loads the model of a checkpoint, with its weights in the kernels' layouts. `plan` is
    what `plan_model` made of the same checkpoint and options, if the caller has it already.

    Raises
    ------
    UnsupportedModelError
        If the family, or something the config asks for, is not supported.
    FormatError
        If the tensors do not fit the config, or hold impossible values.
    """
    return DecoderLoader(checkpoint, plan or plan_model(checkpoint, options), options)
