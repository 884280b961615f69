"""An independent implementation to compare the library with: NumPy, float64 and int64 only.

Nothing here imports `ryzanstein_llm`, and no code is shared with it: the files
are read with `json` and `numpy.frombuffer`, the two-bit codes are unpacked in the
plainest way there is, and every operation is written as its definition reads. It
is slow and short on purpose. Where float32 is part of the *definition* of a model
(the RoPE angle, the bytes of a checkpoint) it is written out as such.

    ops          single operations: norms, activations, softmax, RoPE, int8, attention
    ternary      two-bit packing of published checkpoints, absmean of master weights
    encodings    the published encodings of ternary matrices
    checkpoint   config.json and safetensors from disk, as float64 and int64
    bitnet       a whole `model_type: bitnet` decoder
    family       whole decoders of the other families, rope: their position embeddings
    scoring      perplexity and bits per byte
    steady       prompts on which correct implementations agree to many digits
    random_checkpoint, random_family, tiny_models   small random checkpoints to run all of this on
"""

from __future__ import annotations

from .bitnet import PROJECTIONS, BitNetReference, BitNetShape, ReferenceLayer
from .checkpoint import read_checkpoint, read_safetensors, write_safetensors
from .family import FamilyReference
from .ops import (
    attention,
    gelu_erf,
    gelu_tanh,
    layer_norm,
    log_softmax,
    quantize_int8,
    relu2,
    rms_norm,
    rope,
    rope_tables,
    silu,
    softmax,
    ternary_matmul,
)
from .random_checkpoint import (
    bitnet_config,
    quantization_config,
    random_tensors,
    write_checkpoint,
    write_random_checkpoint,
)
from .random_family import family_config, family_tensors, write_random_family
from .rope import rope_frequencies, yarn_range
from .scoring import Score, greedy_choices, perplexity, score_windows
from .steady import STEADY_MARGIN, is_steady, relative_error, steady_only, steady_prompts
from .ternary import (
    TernaryWeight,
    absmean,
    masters_reproducing,
    pack_rows,
    unpack_rows,
    weight_multiplier,
)
from .tiny_models import NARROW, TINY_MODELS, write_tiny_model

__all__ = [
    "NARROW",
    "PROJECTIONS",
    "STEADY_MARGIN",
    "TINY_MODELS",
    "BitNetReference",
    "BitNetShape",
    "FamilyReference",
    "ReferenceLayer",
    "Score",
    "TernaryWeight",
    "absmean",
    "attention",
    "bitnet_config",
    "family_config",
    "family_tensors",
    "gelu_erf",
    "gelu_tanh",
    "greedy_choices",
    "is_steady",
    "layer_norm",
    "log_softmax",
    "masters_reproducing",
    "pack_rows",
    "perplexity",
    "quantization_config",
    "quantize_int8",
    "random_tensors",
    "read_checkpoint",
    "read_safetensors",
    "relative_error",
    "relu2",
    "rms_norm",
    "rope",
    "rope_frequencies",
    "rope_tables",
    "score_windows",
    "silu",
    "softmax",
    "steady_only",
    "steady_prompts",
    "ternary_matmul",
    "unpack_rows",
    "weight_multiplier",
    "write_checkpoint",
    "write_random_checkpoint",
    "write_random_family",
    "write_safetensors",
    "write_tiny_model",
    "yarn_range",
]
