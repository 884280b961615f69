"""How a model wants its tokens to be drawn: keys of GGUF metadata, and of generation_config.json.

Keys: gguf-py/gguf/constants.py of llama.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..formats import Checkpoint

__all__ = ["SAMPLING_KEYS", "generation_config_of"]

SAMPLING_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
"""From the names of generation_config.json. It has more, for which GGUF has no key."""


def generation_config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a GGUF file says, as generation_config.json would say it. A temperature above 0 means
    that tokens are drawn. As there, values are checked when somebody uses them."""
    assert checkpoint.metadata is not None
    found: dict[str, Any] = {}
    for name, key in SAMPLING_KEYS.items():
        value = checkpoint.metadata.get(key)
        if isinstance(value, np.ndarray):
            found[name] = value.tolist()
        elif isinstance(value, float):
            # float32, of which the nearest short decimal is meant: 0.95, not 0.949999988079071
            with np.errstate(over="ignore"):
                found[name] = float(str(np.float32(value)))
        elif value is not None:
            found[name] = value
    temperature = found.get("temperature")
    if temperature is not None:
        found["do_sample"] = temperature != 0
    return found
