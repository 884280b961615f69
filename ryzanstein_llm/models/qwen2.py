"""`model_type: qwen2`, ternary: the graph of Llama with biases of q, k and v (arXiv 2407.10671)."""

from __future__ import annotations

from ..formats import Checkpoint
from .config import read_config
from .config_reader import ConfigReader
from .description import Description, LayerNames
from .window import refuse_window

__all__ = ["describe"]


def describe(checkpoint: Checkpoint) -> Description:
    """The decoder of a `qwen2` checkpoint. See `models.describe_model`."""
    read = ConfigReader(checkpoint)
    config = read_config(read, ("Qwen2ForCausalLM",), context_length=32768)
    refuse_window(read, config.context_length)
    read.refuse_unread()
    return Description("qwen2", config, LayerNames(biases=("q", "k", "v")))
