"""`benchmarks.peers.gguf_file`: what is in a file is what is in the checkpoint, read back with
PyPI `gguf` and the tests' own reference."""

# ruff: noqa: E402 - the skip comes before the imports that need the extra

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs_extra

needs_extra("peers", "gguf")

from gguf import GGUFReader
from gguf.quants import dequantize
from reference.checkpoint import read_checkpoint
from reference.random_checkpoint import write_random_checkpoint
from reference.ternary import unpack_rows, weight_multiplier

from benchmarks.peers.gguf_file import silu_variant, write_gguf
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import InvalidParameterError, UnsupportedModelError

SHAPES: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 12345.0,
}
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
}
TERNARY = ["TQ1_0", "TQ2_0"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("packed"), **SHAPES)


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """All tensors as floats, shapes as in the checkpoint."""
    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        for tensor in GGUFReader(path).tensors
    }


def checkpoint_name(name: str) -> str:
    if not name.startswith("blk."):
        return {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}[name]
    _, layer, part = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}"


@pytest.mark.parametrize("linear_class", ["autobitlinear", "bitlinear"])
@pytest.mark.parametrize("ternary", TERNARY)
def test_tensors_are_those_of_the_checkpoint(
    ternary: str, linear_class: str, tmp_path: Path
) -> None:
    directory = write_random_checkpoint(tmp_path, linear_class=linear_class, **SHAPES)  # type: ignore[arg-type]
    path = write_gguf(directory, tmp_path / "a.gguf", ternary=ternary, embedding="BF16")
    _, stored = read_checkpoint(directory)
    found = tensors_of(path)
    assert len(found) == 2 + 2 * 11
    for name, values in found.items():
        source = checkpoint_name(name.removesuffix(".weight"))
        wanted = stored[f"{source}.weight"]
        if wanted.dtype == np.uint8:
            scale = weight_multiplier(float(stored[f"{source}.weight_scale"][0]), linear_class)
            wanted = unpack_rows(wanted, len(values)) * np.float32(np.float16(scale))
        assert np.array_equal(values, wanted), name


def test_the_embedding_is_near_in_six_bits(checkpoint: Path, tmp_path: Path) -> None:
    found = tensors_of(write_gguf(checkpoint, tmp_path / "a.gguf"))["token_embd.weight"]
    wanted = read_checkpoint(checkpoint)[1]["model.embed_tokens.weight"]
    assert found.shape == wanted.shape
    assert not np.array_equal(found, wanted)
    assert np.abs(found - wanted).max() <= 0.03 * np.abs(wanted).max()


@pytest.mark.parametrize("ternary", TERNARY)
def test_metadata_say_what_the_config_says(ternary: str, checkpoint: Path, tmp_path: Path) -> None:
    reader = GGUFReader(write_gguf(checkpoint, tmp_path / "a.gguf", ternary=ternary))
    found = {name: field.contents() for name, field in reader.fields.items()}
    wanted = {
        "general.architecture": "bitnet",
        "general.file_type": {"TQ1_0": 36, "TQ2_0": 37}[ternary],
        "bitnet.vocab_size": 131,
        "bitnet.context_length": 512,
        "bitnet.embedding_length": 256,
        "bitnet.block_count": 2,
        "bitnet.feed_forward_length": 512,
        "bitnet.attention.head_count": 4,
        "bitnet.attention.head_count_kv": 2,
        "bitnet.attention.key_length": 64,
        "bitnet.attention.value_length": 64,
        "bitnet.rope.dimension_count": 64,
        "bitnet.rope.freq_base": 12345.0,
        "bitnet.rope.scaling.type": "none",
        "tokenizer.ggml.model": "none",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["bitnet.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hidden_size": 192, "num_attention_heads": 3, "num_key_value_heads": 1}, "hidden_size"),
        ({"intermediate_size": 320}, "intermediate_size 320"),
        ({"tie_word_embeddings": False}, "not tied"),
        ({"form": "master"}, "packed weights are needed"),
    ],
)
def test_what_the_file_cannot_hold_is_refused(
    changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    directory = write_random_checkpoint(tmp_path / "checkpoint", **{**SHAPES, **changes})
    with pytest.raises(UnsupportedModelError, match=what):
        write_gguf(directory, tmp_path / "a.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_other_types_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="'Q4_0'"):
        write_gguf(checkpoint, tmp_path / "a.gguf", ternary="Q4_0")
    with pytest.raises(InvalidParameterError, match="'F64'"):
        write_gguf(checkpoint, tmp_path / "a.gguf", embedding="F64")


def test_a_file_appears_only_when_complete(checkpoint: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert not (tmp_path / "a.gguf").exists()
        assert total == 24
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(checkpoint, tmp_path / "a.gguf", progress=stop)
    assert not list(tmp_path.iterdir())


def test_the_silu_variant_differs_in_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    config, tensors = read_checkpoint(checkpoint)
    for _ in range(2):  # over what is there, too
        variant = silu_variant(checkpoint, tmp_path / "silu")
    found = json.loads((variant / "config.json").read_text(encoding="utf-8"))
    assert config["hidden_act"] == "relu2"
    assert found == {**config, "hidden_act": "silu"}
    for name, tensor in read_checkpoint(variant)[1].items():
        assert np.array_equal(tensor, tensors[name])
    with BitNetModel(variant, n_threads=1) as model:
        assert model.graph.config.activation == "silu"
