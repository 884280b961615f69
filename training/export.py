"""Checkpoints in both published forms, which the library and `transformers` load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ryzanstein_llm.formats.safetensors_writer import TensorPlan
from ryzanstein_llm.testing import from_bf16_bits, pack_hf, to_bf16_bits
from ryzanstein_llm.testing.shards import write_safetensors

from .directory import RunDirectory
from .model import is_projection
from .settings import Shape
from .ternary import SMALLEST
from .vocabulary import BOS_ID, EOS_ID, tokenizer_config

__all__ = ["rounded_to_bfloat16", "write_checkpoints"]

# what read best of what was tried with small models of tales; greedy ones go round in circles
GENERATION = {"temperature": 0.7, "min_p": 0.1, "repetition_penalty": 1.1}


def rounded_to_bfloat16(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights as they will be on disk, in float32."""
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in weights.items()}


def write_checkpoints(
    directory: RunDirectory, weights: Mapping[str, torch.Tensor], shape: Shape, tokenizer: Tokenizer
) -> None:
    """Write `bf16/` (master weights) and `packed/` (two bits a weight) of a ternary model.

    The packed weights are those of the rounded masters, with a scale in float32 beside them, so
    that both are the same model bit for bit.
    """
    bits = {name: to_bf16_bits(tensor.float().cpu().numpy()) for name, tensor in weights.items()}
    master = [_plan(name, "BF16", array) for name, array in bits.items()]
    packed = [plan for name, array in bits.items() for plan in _packed_plans(name, array)]
    _write(directory.master, master, "online", shape, tokenizer)
    _write(directory.packed, packed, "offline", shape, tokenizer)


def _packed_plans(name: str, bits: NDArray[np.uint16]) -> Iterator[TensorPlan]:
    if not is_projection(name):
        yield _plan(name, "BF16", bits)
        return
    weight = from_bf16_bits(bits)
    # in float64: a running sum in float32 is off by percents for large matrices
    absmean = np.float32(max(np.abs(weight).mean(dtype=np.float64), SMALLEST))
    # times the reciprocal, as transformers has it
    codes = np.clip(np.rint(weight * (np.float32(1) / absmean)), -1, 1).astype(np.int8) + 1
    yield _plan(name, "U8", pack_hf(codes))
    yield _plan(f"{name}_scale", "F32", np.array([absmean], np.float32))


def _plan(name: str, dtype: str, array: NDArray[Any]) -> TensorPlan:
    return TensorPlan(name, dtype, array.shape, lambda: [np.ascontiguousarray(array)])


def _write(
    folder: Path, plans: list[TensorPlan], mode: str, shape: Shape, tokenizer: Tokenizer
) -> None:
    folder.mkdir(exist_ok=True)
    config = shape.config(BOS_ID, EOS_ID) | {
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": mode,
        }
    }
    generation = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "do_sample": True, **GENERATION}
    texts = {
        "config.json": config,
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config(shape.context),
    }
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    # transformers refuses a file whose metadata do not name the framework
    write_safetensors(folder / "model.safetensors", plans, metadata={"format": "pt"})
