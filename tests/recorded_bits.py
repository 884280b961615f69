"""What version 2.0 computed, as digests: of the demo model, of the tiny models, of 2B-4T's shapes.
With an int8 cache it is what integer attention computed when it came.

`python tests/recorded_bits.py FILE` writes them anew, from whichever version is imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from reference.tiny_models import TINY_MODELS, write_tiny_model

from ryzanstein_llm import BitNetModel, testing

RECORDED = Path(__file__).parent / "data" / "bits-of-version-2.0.json"
KV_DTYPES = ("bfloat16", "float32", "int8")
LARGE = "bitnet-b1.58-2B-4T"

# Greedy, with a screened head and without, and with everything a sampler does.
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "top_k": {"temperature": 0.9, "top_k": 5, "seed": 3},
    "top_p": {"temperature": 1.1, "top_p": 0.9, "seed": 4},
    "min_p": {"temperature": 0.8, "min_p": 0.05, "seed": 5},
    "typical_p": {"temperature": 1.0, "typical_p": 0.8, "seed": 6},
    "penalties": {
        "temperature": 0.7,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.1,
        "seed": 7,
    },
}


def open_model(name: str, directory: Path, **options: Any) -> BitNetModel:
    """The model of this name; what has to be written for it goes below `directory`."""
    if name == "demo":
        return BitNetModel(**options)
    path = directory / name
    if not path.exists():
        if name == LARGE:
            testing.make_checkpoint(path, name, seed=1)
        else:
            write_tiny_model(name, directory, max_position_embeddings=512)
    return BitNetModel(path, **options)


def computed(model: BitNetModel, positions: int, tokens: int) -> dict[str, Any]:
    """Digest of the logits of a prompt that is longer than a block of the cache, and the tokens
    that each way of choosing gives after a part of it."""
    ids = np.random.default_rng(positions).integers(2, model.vocab_size, positions).tolist()
    logits = model.forward(ids)
    assert logits.shape == (positions, model.vocab_size)
    found: dict[str, Any] = {"logits": hashlib.sha256(logits.tobytes()).hexdigest()}
    for name, options in SAMPLING.items():
        result = model.generate(
            ids[: positions // 2],
            max_tokens=tokens,
            ignore_eos=True,
            return_result=True,
            **options,
        )
        found[name] = result.ids
    return found


def record(directory: Path) -> dict[str, Any]:
    """Digests by model and kind of cache."""
    found: dict[str, Any] = {}
    for name in ("demo", *TINY_MODELS, LARGE):
        for kv_dtype in KV_DTYPES if name in ("demo", *list(TINY_MODELS)[:3]) else KV_DTYPES[:1]:
            with open_model(name, directory, kv_dtype=kv_dtype) as model:
                sizes = (64, 12) if name == LARGE else (300, 40)
                found[f"{name} {kv_dtype}"] = computed(model, *sizes)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        text = json.dumps(record(Path(temporary)), indent=0)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
