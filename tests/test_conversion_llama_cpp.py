"""llama.cpp computes the same from a converted file, as far as its own activations allow.

RYZANSTEIN_LLAMA_PYTHON names a Python that has llama-cpp-python.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from reference import write_random_family

from ryzanstein_llm import BitNetModel, convert

PYTHON = os.environ.get("RYZANSTEIN_LLAMA_PYTHON")
IDS = [3, 77, 5, 9, 40, 41, 2, 8, 8, 19]
SCRIPT = """
import json, sys, numpy as np
from llama_cpp import Llama
ids = json.loads(sys.argv[2])
model = Llama(sys.argv[1], n_ctx=64, n_batch=64, logits_all=True, n_threads=1, verbose=False)
model.eval(ids)
print(json.dumps(np.array(model.scores[:len(ids)]).tolist()))
"""


@pytest.mark.skipif(PYTHON is None, reason="RYZANSTEIN_LLAMA_PYTHON is not set")
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_the_same_tokens_are_likeliest(model_type: str, tmp_path: Path) -> None:
    source = write_random_family(
        tmp_path / "source", model_type, "group256", dtype="float16", hidden_size=256,
        intermediate_size=512, head_dim=64,
    )  # fmt: skip
    file = convert(source, tmp_path / "a.gguf", n_threads=1)
    assert PYTHON is not None
    printed = subprocess.run(
        [PYTHON, "-c", SCRIPT, str(file), json.dumps(IDS)],
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    theirs = np.array(json.loads(printed.splitlines()[-1]))
    with BitNetModel(source, n_threads=1, kv_dtype="float32") as model:
        ours = model.forward(IDS).astype(np.float64)
    with BitNetModel(source, n_threads=1, kv_dtype="float32", activations="float32") as model:
        exact = model.forward(IDS).astype(np.float64)
    size = np.abs(exact).max(axis=1)
    # Both round activations to int8, we for each 128 columns, llama.cpp for each 256, and its keys
    # and values are float16. So both are about as far from float activations.
    rounding = (np.abs(ours - exact).max(axis=1) / size).max()
    assert (np.abs(theirs - exact).max(axis=1) / size).max() < 3 * rounding + 1e-3
    for row, other in zip(exact, theirs, strict=True):
        best, second = np.sort(row)[[-1, -2]]
        if best - second > 6 * rounding * np.abs(row).max():
            assert row.argmax() == other.argmax()
