"""Model families: one file each, named by the `model_type` of config.json.

A family reads its config and names its tensors; it knows nothing of file formats
beyond "tensor by name", nor of instruction sets.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..errors import UnsupportedModelError
from ..formats import Checkpoint
from ..packed_cache.weights import PackedWeights
from .base import CausalLM

__all__ = ["CausalLM", "load_model"]

FAMILIES = {"bitnet": "bitnet"}  # model_type -> module


def load_model(
    checkpoint: Checkpoint,
    *,
    n_threads: int,
    packed: PackedWeights | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> CausalLM:
    """The model of a checkpoint, with its weights in the kernels' layouts.

    Parameters
    ----------
    n_threads : int
        Threads for repacking.
    packed : PackedWeights, optional
        Asked for arrays that were packed before, and told of all that are used.
    progress : callable (done, total, what), optional

    Raises
    ------
    UnsupportedModelError
        If the family, or something the config asks for, is not supported.
    FormatError
        If the tensors do not fit the config, or hold impossible values.
    """
    model_type = checkpoint.config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"{checkpoint.path}: model_type {model_type!r} is not supported; "
            f"there is {', '.join(repr(name) for name in FAMILIES)}"
        )
    family = importlib.import_module(f".{FAMILIES[model_type]}", __name__)
    model: CausalLM = family.load(
        checkpoint, n_threads=n_threads, packed=packed or PackedWeights(), progress=progress
    )
    return model
