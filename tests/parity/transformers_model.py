"""Any BitNet checkpoint as a float32 model of Hugging Face transformers, on the CPU.

`from_pretrained` runs packed `autobitlinear` checkpoints in bfloat16 only (its unpacked
weights stay bfloat16 while the activations are float32). Here the model is built from the
config and its linear layers are exchanged with transformers' own function for that, as
`from_pretrained` does, but everything stays float32. So the arithmetic is transformers':
its BitLinear, AutoBitLinear, norms, RoPE and attention; only the loading is ours.

Importing this module skips the importing test module where the extra `parity` is missing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from extras import needs_extra

needs_extra("parity", "torch", "transformers")

with warnings.catch_warnings():
    # Deprecations inside these packages are not ours to fail on.
    warnings.simplefilter("ignore")
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, BitNetConfig, BitNetForCausalLM
    from transformers.integrations.bitnet import (
        AutoBitLinear,
        WeightQuant,
        replace_with_bitnet_linear,
        unpack_weights,
    )
    from transformers.utils.quantization_config import BitNetQuantConfig


class TransformersModel:
    """A float32 `BitNetForCausalLM` over the files of a checkpoint directory."""

    def __init__(self, directory: Path, model: Any = None) -> None:
        # transformers compiles its quantisation helpers; eager execution needs no compiler.
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = _load(directory) if model is None else model

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits `(tokens, vocab)` of one sequence."""
        with torch.compiler.set_stance("force_eager"), torch.no_grad():
            output = self.model(torch.tensor([list(ids)], dtype=torch.int64))
        result: npt.NDArray[np.float32] = output.logits[0].numpy()
        return result


def load_as_published(directory: Path) -> TransformersModel:
    """The same through `from_pretrained`; needs accelerate, and works for master weights only."""
    loaded = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return TransformersModel(directory, loaded.eval())


def projection_weights(model: TransformersModel, layer: int) -> dict[str, npt.NDArray[np.float32]]:
    """The weights that each projection of a layer multiplies by, as transformers sees them."""
    block = model.model.model.layers[layer]
    modules = {name: getattr(block.self_attn, f"{name}_proj") for name in "qkvo"}
    modules |= {name: getattr(block.mlp, f"{name}_proj") for name in ("gate", "up", "down")}
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        return {name: _effective_weight(module).numpy() for name, module in modules.items()}


def _effective_weight(module: Any) -> torch.Tensor:
    if not isinstance(module, AutoBitLinear):
        return unpack_weights(module.weight, dtype=torch.float32) / module.weight_scale
    if module.online_quant:
        return WeightQuant.apply(module.weight)
    return module.weight * module.weight_scale


def _load(directory: Path) -> Any:
    raw = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    quantization = raw.pop("quantization_config", {})
    raw.pop("torch_dtype", None)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors.update(load_file(path))
    packed = any(tensor.dtype == torch.uint8 for tensor in tensors.values())
    # Only AutoBitLinear takes master weights, whatever the config calls its class.
    linear_class = quantization.get("linear_class", "bitlinear") if packed else "autobitlinear"

    model = BitNetForCausalLM(BitNetConfig(**raw)).float()
    model = replace_with_bitnet_linear(
        model,
        modules_to_not_convert=["lm_head"],
        quantization_config=BitNetQuantConfig(
            linear_class=linear_class, quantization_mode="offline" if packed else "online"
        ),
    )
    state = {}
    for name, tensor in tensors.items():
        if tensor.dtype != torch.uint8:
            state[name] = tensor.float()
        elif linear_class == "autobitlinear":
            state[name] = unpack_weights(tensor, dtype=torch.float32)
        else:
            state[name] = tensor
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    tied = {"lm_head.weight"} if raw.get("tie_word_embeddings") else set()
    assert not unexpected, unexpected
    assert set(missing) <= tied, missing
    model.tie_weights()
    return model.eval()
