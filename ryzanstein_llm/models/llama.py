"""`model_type: llama`, ternary: Llama3-8B-1.58, Falcon3-1.58bit, Falcon-E, TriLM, BitCPM4 1B, 3B.

The graph of Llama (arXiv 2302.13971), with no norms between projections, SiLU, and mostly a float
head of its own. Weights come packed (`quantization_config`, multiplier 1 / weight_scale), as floats
that are ternary already, or as masters.
"""

from __future__ import annotations

import logging

from ..formats import Checkpoint
from .config import read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames

__all__ = ["describe"]

log = logging.getLogger(__name__)

# Factors of MiniCPM. A file of `llama` may have kept the keys after they went into its weights
# (BitCPM4), and transformers does not read them.
MINICPM = ("scale_emb", "scale_depth", "dim_model_base")


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `llama` checkpoint. See `models.describe_model`."""
    read = ConfigReader(checkpoint)
    config = read_config(read, ("LlamaForCausalLM",))
    for key in MINICPM:
        if key in read:
            log.warning(
                "%s: config.json: %s %r has no meaning in a llama model, and nothing is multiplied",
                checkpoint.path, key, read.value(key),
            )  # fmt: skip
    read.refuse_unread()
    return Description("llama", config, LayerNames())
