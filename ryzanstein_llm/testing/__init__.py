"""Helpers for tests and benchmarks of programs that use this library.

`make_checkpoint` writes checkpoints with random weights in the shapes of real models. With them you
can try loading, speed and memory without downloading anything. On the command line:

    python -m ryzanstein_llm.testing make-checkpoint --preset bitnet-b1.58-2B-4T DIRECTORY
"""

from __future__ import annotations

from .bits import from_bf16_bits, pack_hf, to_bf16_bits, unpack_hf
from .checkpoints import make_checkpoint
from .presets import PRESETS, preset_config
from .shapes import tensor_shapes
from .tokenizer_files import tokenizer_json

__all__ = [
    "PRESETS",
    "from_bf16_bits",
    "make_checkpoint",
    "pack_hf",
    "preset_config",
    "tensor_shapes",
    "to_bf16_bits",
    "tokenizer_json",
    "unpack_hf",
]
