"""The library against PyTorch transformers, for every family: whole decoders, and RoPE by itself.

transformers gets the weights that the projections multiply by as plain floats, and its linear
layers round activations to int8 as BitLinear does. All else is transformers' own: norms, RoPE with
its scaling, attention with its windows, activations, biases. The norm before each projection of an
embedding model is transformers' RMSNorm too, put in front of the linear layer.

Needs the extra `parity`.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs_extra
from reference import (
    FamilyReference,
    read_safetensors,
    relative_error,
    steady_prompts,
    write_random_family,
)
from test_families_against_reference import TINY, write_tiny_family

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.models.config_reader import ConfigReader
from ryzanstein_llm.models.rope import read_rope

needs_extra("parity", "torch", "transformers")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations.bitnet import WeightQuant, unpack_weights
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
# transformers has no class of its own for these
WITHOUT_CLASS = {name for name in TINY if name.startswith("1bitllm")}


class Int8Linear(torch.nn.Module):
    """A linear layer whose input is rounded to int8 for each token, after a norm if it has one."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, norm: torch.nn.Module | None
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.norm = torch.nn.Parameter(weight), bias, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.norm is None else self.norm(x)
        step = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
        rounded = (x / step).round().clamp(-128, 127)
        return torch.nn.functional.linear(rounded * step, self.weight, self.bias)


def transformers_model(directory: Path, reference: FamilyReference) -> Any:
    raw = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    raw.pop("quantization_config", None)
    raw.pop("torch_dtype", None)
    if raw["architectures"] == ["Gemma3TextModel"]:
        raw["architectures"] = ["Gemma3ForCausalLM"]
    config = AutoConfig.for_model(**raw)
    config._attn_implementation = "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config).float().eval()
    tensors = reference._tensors
    added = "" if reference.prefix else "model."
    state = {
        added + name: torch.from_numpy(tensor.astype(np.float32))
        for name, tensor in tensors.items()
        if not name.endswith("_scale") and tensor.dtype != np.uint8
    }
    wanted = {name for name in model.state_dict() if name in state}
    projected = {
        f"model.layers.{index}.{path}.weight"
        for index in range(len(reference.layers))
        for path in PATHS.values()
    }
    missing = set(model.state_dict()) - wanted - projected - {"lm_head.weight"}
    assert not missing, missing
    for name in projected:
        state.pop(name, None)
    model.load_state_dict({name: state[name] for name in wanted - projected}, strict=False)
    for index, weights in enumerate(reference.layers):
        for name, path in PATHS.items():
            parent = model.model.layers[index].get_submodule(path.rpartition(".")[0])
            weight = torch.from_numpy(weights[name].astype(np.float32))
            bias = state.get(f"model.layers.{index}.{path}.bias")
            norm = None
            if (gain := state.get(f"model.layers.{index}.{path}.norm.weight")) is not None:
                norm = Qwen3RMSNorm(len(gain), eps=raw["rms_norm_eps"])
                norm.weight = torch.nn.Parameter(gain)
            setattr(parent, path.rpartition(".")[2], Int8Linear(weight, bias, norm))
    model.tie_weights()
    return model


PATHS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TINY if name not in WITHOUT_CLASS])
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    directory = write_tiny_family(name, tmp_path)
    reference = FamilyReference.open(directory)
    model = transformers_model(directory, reference)
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as ours, torch.no_grad():
        for ids in steady_prompts(reference, 2, 9):
            theirs = model(torch.tensor([ids])).logits[0].numpy()
            assert np.max(relative_error(ours.forward(ids), theirs)) < TOLERANCE
            assert np.max(relative_error(reference.forward(ids), theirs)) < TOLERANCE


@pytest.mark.parametrize("name", TINY)
def test_every_projection_alone_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    """Packed weights as its BitLinear and AutoBitLinear take them, masters as WeightQuant does."""
    directory = write_tiny_family(name, tmp_path)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    multiplies = config.get("quantization_config", {}).get("linear_class") == "autobitlinear"
    tensors = read_safetensors(directory / "model.safetensors")
    prefix = "model." if "model.norm.weight" in tensors else ""
    with (
        BitNetModel(directory, n_threads=1) as model,
        torch.compiler.set_stance("force_eager"),
        torch.no_grad(),
    ):
        for index, layer in enumerate(model.graph.layers):
            for projection, path in PATHS.items():
                at = f"{prefix}layers.{index}.{path}.weight"
                weight = torch.from_numpy(tensors[at].copy())
                if weight.dtype == torch.uint8:
                    scale = torch.from_numpy(tensors[f"{at}_scale"].copy())
                    unpacked = unpack_weights(weight, dtype=torch.float32)
                    expected = unpacked * scale if multiplies else unpacked / scale
                else:
                    expected = WeightQuant.apply(weight)
                matrix = getattr(layer, projection)
                ours = matrix.dense() * np.float32(matrix.scale)
                np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6, err_msg=at)


@pytest.mark.parametrize("name", ["embedding-0.6b", "embedding-270m"])
def test_embeddings_are_pooled_hidden_states_of_transformers(name: str, tmp_path: Path) -> None:
    directory = write_tiny_family(name, tmp_path)
    reference = FamilyReference.open(directory)
    prompts = steady_prompts(reference, 2, 9)
    model = transformers_model(directory, reference).model
    with torch.no_grad():
        states = [model(torch.tensor([ids])).last_hidden_state[0] for ids in prompts]
    pooled = {
        "mean": [hidden.mean(0) for hidden in states],
        "cls": [hidden[0] for hidden in states],
        "last": [hidden[-1] for hidden in states],
    }
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as ours:
        for pooling, vectors in pooled.items():
            theirs = torch.nn.functional.normalize(torch.stack(vectors)).numpy()
            found = ours.embed(prompts, pooling=pooling)
            assert np.max(relative_error(found, theirs)) < TOLERANCE


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16384},
        {
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096,
            "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False,
        },
        {
            "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
            "mscale": 1.0, "mscale_all_dim": 0.707,
        },
        {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ],
)  # fmt: skip
@pytest.mark.parametrize("theta", [10000.0, 500000.0, 1e6, 5e6])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
def test_scaled_frequencies_are_those_of_transformers(
    scaling: dict[str, Any], theta: float, head_dim: int, tmp_path: Path
) -> None:
    """Almost to the last bit: torch's powers are not correctly rounded, ours nearly always."""
    write_random_family(
        tmp_path, "llama", num_hidden_layers=1, head_dim=head_dim, rope_theta=theta,
        rope_parameters=scaling,
    )  # fmt: skip
    with open_checkpoint(tmp_path) as checkpoint:
        rope = read_rope(ConfigReader(checkpoint), 1.0, 512)
        raw = {**checkpoint.config, "rope_parameters": {**scaling, "rope_theta": theta}}
    raw = {key: value for key, value in raw.items() if key != "quantization_config"}
    config = AutoConfig.for_model(**raw)
    theirs, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"))
    ours = rope.inverse_frequencies(head_dim)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=3e-7)
    assert rope.attention_factor == pytest.approx(factor, rel=1e-12)
