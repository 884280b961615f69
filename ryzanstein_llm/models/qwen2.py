"""`model_type: qwen2`, ternary: the graph of Llama with biases of q, k and v (arXiv 2407.10671)."""

from __future__ import annotations

from ..formats import Checkpoint
from .base import LoadOptions
from .config import read_config
from .config_reader import ConfigReader
from .decoder import Decoder
from .layers import LayerNames, load_decoder
from .window import refuse_window

__all__ = ["load"]


def load(checkpoint: Checkpoint, options: LoadOptions) -> Decoder:
    """Read the weights of a `qwen2` checkpoint. See `models.load_model`."""
    read = ConfigReader(checkpoint)
    config = read_config(read, ("Qwen2ForCausalLM",), context_length=32768)
    refuse_window(read, config.context_length)
    read.refuse_misspelt()
    return load_decoder(checkpoint, options, "qwen2", config, LayerNames(biases=("q", "k", "v")))
