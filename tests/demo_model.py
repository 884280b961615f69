"""The built-in demo model and the validation tale, as tests use them.

`python tests/demo_model.py` prints the constants that a new demo model needs here.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from reference import (
    PROJECTIONS,
    BitNetReference,
    is_steady,
    masters_reproducing,
    quantization_config,
    read_checkpoint,
    write_checkpoint,
)

import ryzanstein_llm

DEMO = Path(ryzanstein_llm.__file__).parent / "demo"
TALE = Path(__file__).parent / "data" / "validation_tale.txt"
BOS = 0
EXCERPT = 6

# After these the best token leads by 0.05 and more for 64 steps, in the reference alone. Where
# two tokens are closer than that, correct implementations may choose differently: see
# `reference.steady`.
DECIDED_PROMPTS = (
    "THE MILLER'S YOUNGEST",
    "While the water",
    "But there came a summer so dry that the one stream failed and then the other, and at last the "
    "great wheel",
    '"We cannot grind without water," said the miller,',
    "Somebody must go",
)

# Where in the tale's tokens the steady excerpts begin: found by trying all places, and tested.
STEADY_PLACES = (
    15, 25, 74, 168, 195, 203, 236, 305, 331, 382, 416, 454, 485, 505, 552, 593, 607, 641, 669, 707,
    719, 788, 831, 837, 900, 918, 924, 957, 990, 1031,
)  # fmt: skip


def encode(text: str) -> list[int]:
    """Token ids without BOS, by the `tokenizers` library alone."""
    tokenizer = tokenizers.Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def tale() -> str:
    """The text written for this repository."""
    return TALE.read_text(encoding="ascii")


@cache
def steady_excerpts() -> list[list[int]]:
    """Tokens of the tale, EXCERPT at a time, where nothing is near a rounding tie.

    Without BOS, for after it this model is near a tie already. They serve both forms of the model,
    whose activations differ by a millionth.
    """
    reference, ids = BitNetReference.open(DEMO), encode(tale())
    excerpts = [ids[begin : begin + EXCERPT] for begin in STEADY_PLACES]
    assert all(is_steady(reference, excerpt) for excerpt in excerpts)
    return excerpts


def write_demo_masters(directory: Path) -> Path:
    """The demo model in its other published form: float weights that absmean makes ternary."""
    config, tensors = read_checkpoint(DEMO)
    reference = BitNetReference(config, tensors)
    names = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    }
    for index, layer in enumerate(reference.layers):
        for projection in PROJECTIONS:
            name = f"model.layers.{index}.{names[projection]}"
            tensors[f"{name}.weight"] = masters_reproducing(getattr(layer, projection))
            del tensors[f"{name}.weight_scale"]
    config["quantization_config"] = quantization_config("master", "autobitlinear")
    # float32: rounding to bfloat16 would move the mean, and with it the scale, by up to 0.4 %.
    write_checkpoint(directory, config, tensors, dtype="float32")
    (directory / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    return directory


def find_steady_places() -> list[int]:
    """For STEADY_PLACES: the first thirty, no excerpt within another."""
    reference, ids = BitNetReference.open(DEMO), encode(tale())
    found: list[int] = []
    for begin in range(len(ids) - EXCERPT):
        if found and begin < found[-1] + EXCERPT:
            continue
        if is_steady(reference, ids[begin : begin + EXCERPT]):
            found.append(begin)
    return found[:30]


def find_decided_prompts(lead: float = 0.05, steps: int = 64) -> list[str]:
    """For DECIDED_PROMPTS: beginnings of sentences of the tale whose greedy continuation by the
    reference is never a close call. The library only proposes continuations."""
    reference, found = BitNetReference.open(DEMO), []
    with ryzanstein_llm.BitNetModel() as model:
        for sentence in re.split(r"(?<=[.!?])\s+", tale()):
            words = sentence.split()
            for count in range(3, len(words) + 1):
                prompt = " ".join(words[:count])
                ids = [BOS, *encode(prompt)]
                ids += model.generate(prompt, max_tokens=steps, return_result=True).ids
                if len(ids) - len(encode(prompt)) - 1 < steps:
                    continue  # the end of the text
                if all(
                    _is_decided(logits(ids), ids, steps, lead)
                    for logits in (model.forward, reference.forward)
                ):
                    found.append(prompt)
                    break
            if len(found) == 5:
                break
    return found


def _is_decided(logits: NDArray[Any], ids: list[int], steps: int, lead: float) -> bool:
    """Whether the last `steps` of ids lead the second best by `lead` or more."""
    before = logits[-steps - 1 : -1]
    second = np.sort(before, axis=-1)[:, -2]
    return bool((before[np.arange(steps), ids[-steps:]] - second >= lead).all())


if __name__ == "__main__":
    sys.stdout.write(
        f"STEADY_PLACES = {tuple(find_steady_places())}\n"
        f"DECIDED_PROMPTS = {tuple(find_decided_prompts())}\n"
    )
