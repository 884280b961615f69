"""The table of GGUF's element types, against the table of PyPI `gguf`."""

# ruff: noqa: E402 - the skip comes before the imports that need the extra

from __future__ import annotations

from extras import needs_extra

needs_extra("peers", "gguf")

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ryzanstein_llm.formats.gguf_types import TYPES


def test_names_and_sizes_are_those_of_the_gguf_library() -> None:
    compared = 0
    for kind, (elements, nbytes) in GGML_QUANT_SIZES.items():
        if kind == GGMLQuantizationType.Q8_1:  # never in a file; the library says 40 bytes
            continue
        ours = TYPES[kind.value][0]
        if kind.name == ours.name:
            assert (ours.elements, ours.nbytes) == (elements, nbytes), kind.name
            assert ours.size((3, 2 * elements)) == 6 * nbytes
            compared += 1
    assert compared >= 30
