"""The built-in demo model and the validation tale, as tests use them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import tokenizers
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

# After these the best token leads by 0.05 and more for 64 steps, in the reference alone. Where
# two tokens are closer than that, correct implementations may choose differently: see
# `reference.steady`.
DECIDED_PROMPTS = (
    "Long ago, when the world was young,",
    "Far away over the mountains",
    "The princess opened the door",
    'But you must tell it nothing that is false, for a lie will put it out as surely as rain."',
    "said she, and she did not turn her head.",
)

# Where in the tale's tokens the steady excerpts begin: found by trying all places, and tested.
STEADY_PLACES = (
    14, 109, 254, 285, 293, 315, 623, 631, 641, 855,
    861, 874, 935, 1034, 1035, 1259, 1287, 1289, 1363,
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
    """BOS and 8 tokens of the tale, 19 times, where nothing is near a rounding tie.

    They serve both forms of the model, whose activations differ by a millionth.
    """
    reference, ids = BitNetReference.open(DEMO), encode(tale())
    excerpts = [[BOS, *ids[begin : begin + 8]] for begin in STEADY_PLACES]
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
