"""Sampling defaults of a checkpoint as GGUF metadata: the way back of models/gguf_sampling.py."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..formats import Checkpoint
from ..models.gguf_sampling import SAMPLING_KEYS
from ..sampling import SamplingParams
from ..sampling.params import source_of

__all__ = ["sampling_keys"]

log = logging.getLogger(__name__)

ALL_TOKENS = np.int32(-1)
MAX_INT32 = (1 << 31) - 1


def sampling_keys(checkpoint: Checkpoint) -> dict[str, Any]:
    """The keys for what generation_config.json says. Of a model that is greedy by default, only the
    penalty is written: llama.cpp then uses its own temperature, as for files without keys.

    Raises
    ------
    FormatError
        If the file holds a value outside its range that would be used.
    """
    params = SamplingParams.from_checkpoint(checkpoint)
    drawn = params.temperature > 0
    keys: dict[str, Any] = {}
    for name, key in SAMPLING_KEYS.items():
        stated = checkpoint.generation_config.get(name) is not None or name == "temperature"
        if stated and (drawn or name == "repetition_penalty"):
            value = getattr(params, name)
            keys[key] = np.int32(min(value, MAX_INT32)) if name == "top_k" else float(value)
    if SAMPLING_KEYS["repetition_penalty"] in keys:
        # llama.cpp counts the last 64 tokens otherwise
        keys["general.sampling.penalty_last_n"] = ALL_TOKENS
    if drawn and params.typical_p < 1:
        log.warning(
            "%s: typical_p %s has no place in a GGUF file and is left out",
            source_of(checkpoint),
            params.typical_p,
        )
    return keys
