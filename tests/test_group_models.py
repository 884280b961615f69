"""Models whose scales change within a row: Ternary-Bonsai, CAT-Q, TriLM, BitCPM4.

They were trained without quantised activations. By default activations are int8 with a scale for
each group of columns; "float32" leaves them as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels.block_cache import BlockCache
from reference import (
    FamilyReference,
    relative_error,
    steady_prompts,
    write_random_family,
    write_safetensors,
)

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import FormatError, InvalidParameterError, UnsupportedModelError
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.models import LoadOptions, prepare_model

STEADY_TOLERANCE = 1e-5

# (family, form of the weights, width of the groups that they are kept in)
CASES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "bonsai": ("qwen3", "group128", 128, {"hidden_size": 256, "tie_word_embeddings": True}),
    "bonsai-odd-sizes": ("qwen3", "group128", 128, {}),
    "groups-of-64": ("qwen3", "group64", 64, {}),
    "groups-of-256": ("llama", "group256", 128, {"hidden_size": 512, "intermediate_size": 300}),
    "trilm": ("llama", "row", 128, {"num_key_value_heads": 4}),
    "one-scale": ("llama", "tensor", 128, {}),
    "with-biases": ("qwen2", "group128", 128, {}),
    "norms-after-rope": ("hunyuan_v1_dense", "group128", 128, {}),
    "output-norms": ("gemma3_text", "group64", 64, {"tie_word_embeddings": True}),
}


def write(name: str, directory: Path, dtype: str = "float16") -> tuple[Path, int]:
    model_type, form, width, changes = CASES[name]
    write_random_family(directory, model_type, form, seed=len(name), dtype=dtype, **changes)
    return directory, width


def logits(directory: Path, ids: list[int], **options: Any) -> np.ndarray:
    """All logits, with keys and values in float32."""
    with open_checkpoint(directory) as checkpoint:
        graph = prepare_model(checkpoint, LoadOptions(1, **options)).build()
    layout, workspace = graph.kv_layout("float32"), Workspace(1)
    cache = BlockCache(layout, len(ids))
    segments = [(len(ids), 0, cache.table)]
    hidden = graph.hidden_states(np.array(ids), segments, layout, workspace)
    return graph.logits(hidden, workspace)


@pytest.mark.parametrize("name", CASES)
def test_activations_are_int8_in_groups(name: str, tier: str, tmp_path: Path) -> None:
    directory, width = write(name, tmp_path)
    reference = FamilyReference.open(directory, stored=True, activations=f"group{width}")
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        assert model.info()["weight_format"] == f"groups{width}"
        for ids in steady_prompts(reference, 2, 6):
            error = relative_error(model.forward(ids), reference.forward(ids))
            assert np.max(error) < STEADY_TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_float_activations_are_not_rounded(name: str, dtype: str, tmp_path: Path) -> None:
    directory, _ = write(name, tmp_path, dtype)
    reference = FamilyReference.open(directory, stored=True, activations="float")
    ids = np.random.default_rng(1).integers(2, 131, 40).tolist()
    found = logits(directory, ids, activations="float32")
    assert np.max(relative_error(found, reference.forward(ids))) < STEADY_TOLERANCE


def test_int8_in_groups_is_nearer_to_float_than_int8_by_token(tmp_path: Path) -> None:
    directory, width = write("bonsai", tmp_path)
    ids = list(range(3, 40))
    exact = FamilyReference.open(directory, stored=True, activations="float").forward(ids)

    def error(activations: str) -> float:
        found = FamilyReference.open(directory, stored=True, activations=activations)
        return float(np.median(relative_error(found.forward(ids), exact)))

    assert error(f"group{width}") < error("token")
    ours = float(np.median(relative_error(logits(directory, ids), exact)))
    assert ours == pytest.approx(error(f"group{width}"), rel=0.2)


def test_rows_with_scales_of_their_own_keep_int8_by_token_if_trained_so(tmp_path: Path) -> None:
    write_random_family(
        tmp_path, "llama", "row", quantization_config={"quant_method": "bitnet"}, dtype="float16"
    )
    reference = FamilyReference.open(tmp_path, stored=True, activations="token")
    for ids in steady_prompts(reference, 2, 6):
        assert np.max(relative_error(logits(tmp_path, ids), reference.forward(ids))) < 1e-5


def test_a_model_trained_with_int8_has_no_float_activations(tmp_path: Path) -> None:
    write_random_family(tmp_path, "llama", "packed")
    with pytest.raises(InvalidParameterError, match=r"activations.*float32.*int8"):
        logits(tmp_path, [1], activations="float32")


@pytest.mark.parametrize("weight_format", ["1.6bit", "table"])
def test_groups_are_kept_with_two_bits_only(weight_format: str, tmp_path: Path) -> None:
    directory, _ = write("bonsai", tmp_path)
    with pytest.raises(UnsupportedModelError, match=weight_format):
        BitNetModel(directory, weight_format=weight_format)
    with BitNetModel(directory, weight_format="2bit", n_threads=1) as model:
        assert model.info()["weight_format"] == "groups128"


def spoil(directory: Path, change: Any) -> None:
    """Change one projection of a float32 checkpoint."""
    from reference import read_safetensors

    path = directory / "model.safetensors"
    tensors = {name: tensor.copy() for name, tensor in read_safetensors(path).items()}
    change(tensors)
    write_safetensors(path, tensors)


def test_one_weight_that_does_not_fit_its_group_is_found(tmp_path: Path) -> None:
    directory, _ = write("bonsai-odd-sizes", tmp_path, "float32")
    name = "model.layers.1.mlp.down_proj.weight"

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][7, 70] = 0.123

    spoil(directory, change)
    with pytest.raises(FormatError, match=f"{name}.*ternary"):
        BitNetModel(directory)


def test_one_scale_that_no_half_holds_is_found(tmp_path: Path) -> None:
    directory, _ = write("groups-of-64", tmp_path, "float32")
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] *= np.float32(1.0001)

    spoil(directory, change)
    with pytest.raises(FormatError, match=f"{name}.*fp16"):
        BitNetModel(directory)


def test_finer_groups_than_those_of_the_first_projection_are_refused(tmp_path: Path) -> None:
    directory, _ = write("bonsai", tmp_path, "float32")
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][:, :64] *= 2

    spoil(directory, change)
    with pytest.raises(UnsupportedModelError, match=f"{name}.*fewer columns"):
        BitNetModel(directory)


def write_mlx(source: Path, target: Path, group: int) -> Path:
    """The same model as MLX stores it: sixteen codes in a word, scales and biases in fp16."""
    from reference import read_safetensors

    tensors: dict[str, np.ndarray] = {}
    for name, tensor in read_safetensors(source / "model.safetensors").items():
        if not name.endswith(("_proj.weight", "embed_tokens.weight", "lm_head.weight")):
            tensors[name] = tensor
            continue
        rows, columns = tensor.shape
        scales = np.abs(tensor.reshape(rows, -1, group)).max(axis=2).astype(np.float16)
        codes = (np.sign(tensor) + 1).astype(np.uint32).reshape(rows, -1, 16)
        words = (codes << (2 * np.arange(16, dtype=np.uint32))).sum(axis=2, dtype=np.uint32)
        tensors[name] = words
        prefix = name.removesuffix("weight")
        tensors[f"{prefix}scales"], tensors[f"{prefix}biases"] = scales, -scales
        assert columns % group == 0
    target.mkdir()
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization"] = config["quantization_config"] = {"group_size": group, "bits": 2}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_words(target / "model.safetensors", tensors)
    return target


def _write_words(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """As write_safetensors, with uint32 as U32."""
    header, chunks, offset = {}, [], 0
    kinds = {"float32": "F32", "float16": "F16", "uint32": "U32"}
    for name, tensor in tensors.items():
        chunk = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": kinds[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))


@pytest.mark.parametrize("group", [64, 128])
def test_weights_of_mlx_are_the_same_model(group: int, tmp_path: Path) -> None:
    write_random_family(
        tmp_path / "floats", "qwen3", f"group{group}", dtype="float16", hidden_size=256,
        intermediate_size=384, ternary_embedding=True,
    )  # fmt: skip
    ids = list(range(3, 30))
    found = logits(write_mlx(tmp_path / "floats", tmp_path / "mlx", group), ids)
    assert (found == logits(tmp_path / "floats", ids)).all()


@pytest.mark.parametrize(
    ("quantization", "named"),
    [
        ({"group_size": 32, "bits": 2}, "group_size"),
        ({"group_size": 64, "bits": 4}, "bits"),
        ({"group_size": 64, "bits": 2, "mode": "mxfp4"}, "mode"),
    ],
)
def test_what_mlx_can_but_this_cannot_is_refused(
    quantization: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_random_family(
        tmp_path, "qwen3", "group64", quantization=quantization, quantization_config=quantization
    )
    with pytest.raises(UnsupportedModelError, match=named):
        BitNetModel(tmp_path)
