"""What the family files read from config.json and from tensors, beside what the reference sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import (
    FamilyReference,
    family_config,
    relative_error,
    steady_prompts,
    write_random_family,
)

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import FormatError, UnsupportedModelError


def test_weights_that_are_ternary_already_keep_their_scale(tmp_path: Path) -> None:
    """Absmean would shrink it by the share of non-zero weights, about 0.6."""
    write_random_family(tmp_path, "llama", "tensor", quantization_config={"quant_method": "bitnet"})
    reference = FamilyReference.open(tmp_path, stored=True)
    with BitNetModel(tmp_path, n_threads=1) as model:
        for layer, expected in zip(model.graph.layers, reference.layers, strict=True):
            for name, weights in expected.items():
                matrix = getattr(layer, name)
                assert (matrix.dense() * np.float32(matrix.scale) == weights).all()


def test_masters_of_bitnet_get_absmean_even_if_they_are_ternary_already(tmp_path: Path) -> None:
    """As in transformers: the same file means the same model."""
    write_random_family(tmp_path, "bitnet", "tensor")
    reference = FamilyReference.open(tmp_path)
    with BitNetModel(tmp_path, n_threads=1) as model:
        matrix = model.graph.layers[0].gate
        np.testing.assert_allclose(
            matrix.dense() * np.float32(matrix.scale), reference.layers[0]["gate"], rtol=1e-6
        )


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gemma3_text"])
def test_a_model_of_plain_floats_is_no_ternary_model(model_type: str, tmp_path: Path) -> None:
    """Absmean would make noise of it."""
    write_random_family(tmp_path, model_type, "master")
    path = tmp_path / "config.json"
    text = path.read_text(encoding="utf-8").replace('"quantization_config"', '"unrelated"')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match=r"q_proj.*not ternary"):
        BitNetModel(tmp_path)


def test_factors_of_minicpm_do_nothing_in_a_llama_model_as_in_transformers_and_a_warning_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_random_family(tmp_path / "plain", "llama", "tensor")
    write_random_family(tmp_path / "kept", "llama", "tensor", scale_emb=12, scale_depth=1.4)
    with BitNetModel(tmp_path / "plain", n_threads=1) as plain:
        assert not caplog.records
        with BitNetModel(tmp_path / "kept", n_threads=1) as kept:
            assert (kept.forward([1, 2, 3]) == plain.forward([1, 2, 3])).all()
    assert ["scale_emb 12" in caplog.text, "scale_depth 1.4" in caplog.text] == [True, True]


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ("bitnet", {"input_bits": 4}, "input_bits"),
        ("bitnet", {"weight_bits": 2}, "weight_bits"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 64}, "sliding_window"),
        ("qwen3", {"use_sliding_window": True, "max_position_embeddings": 8192}, "sliding_window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 64},
         "sliding_window"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("hunyuan_v1_dense", {"use_qk_norm": False}, "use_qk_norm"),
    ],
)  # fmt: skip
def test_what_a_family_cannot_run_is_refused(
    model_type: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_random_family(tmp_path, model_type, "master", **changes)
    with pytest.raises(UnsupportedModelError, match=named):
        BitNetModel(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        ("qwen3", {"use_sliding_window": "false"}, "use_sliding_window"),
        ("llama", {"mlp_bias": "true"}, "mlp_bias"),
        ("gemma3_text", {"layer_types": ["full_attention"]}, "layer_types"),
        ("gemma3_text", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types"),
        ("gemma3_text", {"sliding_window": 0}, "sliding_window"),
        ("gemma3_text", {"rope_local_base_freq": -1}, "rope_local_base_freq"),
        ("gemma3_text", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ("qwen2", {"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    model_type: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_random_family(tmp_path, model_type, "master", **{"num_key_value_heads": 2})
    config = family_config(model_type, **changes)
    with pytest.raises(FormatError, match=named):
        _rewrite(tmp_path, config)


def _rewrite(directory: Path, config: dict[str, Any]) -> None:
    import json

    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    BitNetModel(directory)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_names_may_lack_their_prefix(prefix: str, tmp_path: Path) -> None:
    write_random_family(
        tmp_path, "qwen3", "master", projection_norms=True, tie_word_embeddings=True, prefix=prefix
    )
    reference = FamilyReference.open(tmp_path)
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32") as model:
        error = relative_error(model.forward([1, 2, 3]), reference.forward([1, 2, 3]))
    assert np.max(error) < 0.05


def test_each_norm_of_a_projection_matters(tmp_path: Path) -> None:
    """The reference's norms are those of the file, so a layer without one of them differs."""
    write_random_family(
        tmp_path, "qwen3", "master", projection_norms=True, tie_word_embeddings=True
    )
    ids = [5, 9, 2, 7]
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32") as model:
        names = list(model.graph.layers[0].projection_norms)
        assert names == ["q", "k", "v", "o", "gate", "up", "down"]
        layer = model.graph.layers[0]
        assert layer.q_norm is not None
        assert layer.input_norm is not None
        assert np.isfinite(model.forward(ids)).all()


def test_end_of_text_ids_may_be_a_list(tmp_path: Path) -> None:
    write_random_family(tmp_path, "llama")
    with BitNetModel(tmp_path, n_threads=1) as model:
        assert set(model.eos_ids) >= {1, 2}


@pytest.mark.parametrize("skipping", [False, True])
def test_biases_are_added_where_weights_are_skipped(skipping: bool, tmp_path: Path) -> None:
    """With squared ReLU, token by token, where skipping has products of its own."""
    write_random_family(
        tmp_path, "bitnet", "master", hidden_act="relu2", mlp_bias=True, attention_bias=True
    )
    reference = FamilyReference.open(tmp_path)
    (ids,) = steady_prompts(reference, 1, 9)
    expected = reference.forward(ids)
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32", skipping=skipping) as model:
        cache = model.new_cache()
        found = np.concatenate([model.forward([token], cache) for token in ids])
    assert np.max(relative_error(found, expected)) < 1e-5
