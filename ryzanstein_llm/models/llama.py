"""`model_type: llama`, ternary: Llama3-8B-1.58, Falcon3-1.58bit, Falcon-E, TriLM, BitCPM4 1B, 3B.

The graph of Llama (arXiv 2302.13971), with no norms between projections, SiLU, and mostly a float
head of its own. Weights come packed (`quantization_config`, multiplier 1 / weight_scale), as floats
that are ternary already, or as masters.
"""

from __future__ import annotations

from ..formats import Checkpoint
from .config import read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames

__all__ = ["describe"]


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `llama` checkpoint. See `models.describe_model`."""
    read = ConfigReader(checkpoint)
    config = read_config(read, ("LlamaForCausalLM",))
    read.refuse_misspelt()
    return Description("llama", config, LayerNames())
