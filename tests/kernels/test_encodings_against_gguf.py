"""TQ1_0 and TQ2_0 as the `gguf` package, which llama.cpp publishes, writes and reads them."""

from __future__ import annotations

import numpy as np
import pytest
from extras import needs_extra

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.sources import TernarySource

from .same_bits import assert_same_bits

gguf = needs_extra("peers", "gguf.quants", "gguf")


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
def test_same_floats(name: str, rng: np.random.Generator) -> None:
    """Random masters, a scale for each block of 256, and one block of zeros."""
    weights = rng.standard_normal((33, 1024), np.float32)
    weights *= 2.0 ** rng.integers(-12, 4, (33, 1))
    weights[7, 256:512] = 0
    kind = getattr(gguf.GGMLQuantizationType, name)
    data = gguf.quants.quantize(weights, kind)
    source = TernarySource(name, data, *weights.shape)
    for layout in packing.GROUP_LAYOUTS:
        codes, problem = packing.pack_source(source, 2, layout=layout)
        assert problem is None
        found = np.empty_like(weights)
        packing.ternary_rows_as_floats(codes, *weights.shape, layout, np.arange(33), found)
        assert_same_bits(found, gguf.quants.dequantize(data, kind) + np.float32(0))
