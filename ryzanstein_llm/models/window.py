"""Layers that see only the last positions: what config.json says about them."""

from __future__ import annotations

from .config import DecoderConfig, Window
from .config_reader import ConfigReader
from .rope import Rope

__all__ = ["gemma_window", "refuse_window"]

TYPES = ("full_attention", "sliding_attention")


def refuse_window(read: ConfigReader, context_length: int) -> None:
    """Qwen: refuse windows that are shorter than the context.

    Raises
    ------
    FormatError, UnsupportedModelError
    """
    read.expect("max_window_layers")
    used = read.boolean("use_sliding_window", False)
    absent = 4096 if "sliding_window" not in read.keys else context_length  # of transformers
    positions = read.integer("sliding_window", absent)
    types = _layer_types(read, read.integer("num_hidden_layers"))
    if ("sliding_attention" in types or used) and positions < context_length:
        raise read.unsupported("sliding_window", positions, "sliding windows are not supported")


def gemma_window(read: ConfigReader, config: DecoderConfig) -> Window | None:
    """Gemma 3: every layer but each sixth sees a window, unless config.json lists the layers.

    Raises
    ------
    FormatError, UnsupportedModelError
    """
    types = _layer_types(read, config.n_layers)
    pattern = read.integer("sliding_window_pattern", read.integer("_sliding_window_pattern", 6))
    local = tuple(kind == "sliding_attention" for kind in types) or tuple(
        (index + 1) % pattern != 0 for index in range(config.n_layers)
    )
    if not any(local):
        return None
    nested = read.section("rope_parameters").section("sliding_attention")
    kind = nested.value("rope_type", "default")
    if kind != "default":
        raise nested.unsupported("rope_type", kind, "only 'default' is supported here")
    theta = read.positive("rope_local_base_freq", 10000.0, low=1.0)
    rope = Rope(nested.positive("rope_theta", theta, low=1.0))
    return Window(read.integer("sliding_window", 4096), local, rope)


def _layer_types(read: ConfigReader, n_layers: int) -> list[str]:
    types = read.value("layer_types", [])
    if not isinstance(types, list) or not all(kind in TYPES for kind in types):
        raise read.wrong("layer_types", types, f"a list of {' and '.join(TYPES)}")
    if types and len(types) != n_layers:
        raise read.wrong("layer_types", f"{len(types)} names", f"{n_layers} names, one a layer")
    return types
