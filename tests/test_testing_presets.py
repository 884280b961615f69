"""`ryzanstein_llm.testing`: tensor shapes and tokenizers of the presets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.testing import (
    PRESETS,
    make_checkpoint,
    preset_config,
    tensor_shapes,
    tokenizer_json,
)
from ryzanstein_llm.testing.family_presets import FAMILY_PRESETS

BITNET_2B = "bitnet-b1.58-2B-4T"


def test_2b_preset_has_the_published_tensors() -> None:
    config = preset_config(BITNET_2B)
    master = tensor_shapes(config)
    packed = tensor_shapes(config, "packed")
    assert len(master) == 332
    assert sum(math.prod(shape) for shape in master.values()) == 2_412_820_480
    assert len(packed) == 542
    assert sum(name.endswith(".weight_scale") for name in packed) == 210
    assert packed["model.embed_tokens.weight"] == (128256, 2560)
    assert "lm_head.weight" not in packed
    assert packed["model.norm.weight"] == (2560,)
    layer = {
        name.removeprefix("model.layers.29."): shape
        for name, shape in packed.items()
        if name.startswith("model.layers.29.") and shape != (1,)
    }
    assert layer == {
        "input_layernorm.weight": (2560,),
        "post_attention_layernorm.weight": (2560,),
        "self_attn.attn_sub_norm.weight": (2560,),
        "mlp.ffn_sub_norm.weight": (6912,),
        "self_attn.q_proj.weight": (640, 2560),
        "self_attn.k_proj.weight": (160, 2560),
        "self_attn.v_proj.weight": (160, 2560),
        "self_attn.o_proj.weight": (640, 2560),
        "mlp.gate_proj.weight": (1728, 2560),
        "mlp.up_proj.weight": (1728, 2560),
        "mlp.down_proj.weight": (640, 6912),
    }


def test_tales_preset_has_the_tensors_of_the_demo_model() -> None:
    with open_checkpoint(None) as demo:
        ours = preset_config("tales-6m")
        assert ours == {k: v for k, v in demo.config.items() if k != "quantization_config"}
        shapes = {name: demo.info(name).shape for name in demo.names}
    assert shapes == tensor_shapes(ours, "packed")


def test_shapes_follow_head_dim_odd_sizes_and_separate_heads() -> None:
    config = preset_config("tiny") | {
        "hidden_size": 98,
        "head_dim": 24,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
    }
    shapes = tensor_shapes(config, "packed")
    assert shapes["lm_head.weight"] == (512, 98)
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (18, 98)
    assert shapes["model.layers.0.self_attn.o_proj.weight"] == (25, 72)
    assert shapes["model.layers.0.self_attn.attn_sub_norm.weight"] == (72,)


@pytest.mark.parametrize("preset", PRESETS)
def test_tokenizer_has_the_full_size_and_reads_any_text_back(preset: str) -> None:
    config = preset_config(preset)
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(config)))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(config["vocab_size"]))
    texts = [
        "",
        "Once upon a time",
        " two  spaces\n\n\ttab",
        "naïve 你好 🎉 — ²",
        "1234567",
        "\0\x7f",
    ]
    texts.append("".join(chr(point) for point in range(1, 0x3000)))
    for text in texts:
        encoding = tokenizer.encode(text)
        assert encoding.ids[0] == config["bos_token_id"]
        assert tokenizer.decode(encoding.ids) == text


def test_2b_tokenizer_has_the_special_tokens_of_llama_3() -> None:
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(preset_config(BITNET_2B))))
    assert tokenizer.token_to_id("<|begin_of_text|>") == 128000
    assert tokenizer.token_to_id("<|end_of_text|>") == 128001
    assert tokenizer.token_to_id("<|eot_id|>") == 128009
    assert tokenizer.encode("a<|eot_id|>").ids[-1] == 128009
    assert tokenizer.id_to_token(128255) == "<|reserved_special_token_250|>"
    text = "It was the best of times, it was the worst of times, and there was a great storm."
    assert len(tokenizer.encode(text).ids) < len(text) / 2
    with_partial_characters = [
        token for token in range(128000) if tokenizer.decode([token]).endswith("\ufffd")
    ]
    assert len(with_partial_characters) > 1000  # a stream must be ready for these


def test_vocabularies_without_room_for_all_bytes_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"vocab_size must be at least 258 .*, not 257"):
        tokenizer_json(preset_config("tiny") | {"vocab_size": 257})
    assert len(tokenizer_json(preset_config("tiny") | {"vocab_size": 258})["model"]["merges"]) == 0


@pytest.mark.parametrize(
    ("changed", "parameter", "value"),
    [
        ({"vocab_size": 300_000_000}, "vocab_size", 300_000_000),
        ({"vocab_size": "z"}, "vocab_size", "z"),
        ({"bos_token_id": 4096}, "bos_token_id", 4096),
        ({"eos_token_id": [1, -1]}, "eos_token_id", -1),
    ],
)
def test_impossible_vocabularies_are_refused(changed: Any, parameter: str, value: object) -> None:
    with pytest.raises(InvalidParameterError, match=f"not {value!r}") as caught:
        tokenizer_json(preset_config("tiny") | changed)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("name", ["hidden_size", "vocab_size", "num_key_value_heads"])
def test_shapes_need_sizes(name: str) -> None:
    config = preset_config("tiny")
    for value in (0, "z", 1.5, True):
        with pytest.raises(InvalidParameterError, match=f"not {value!r}") as caught:
            tensor_shapes(config | {name: value})
        assert caught.value.parameter == f"config[{name!r}]"
    del config[name]
    with pytest.raises(InvalidParameterError, match=f"config lacks {name}"):
        tensor_shapes(config)


def test_shapes_are_of_a_config_and_a_form() -> None:
    with pytest.raises(InvalidParameterError, match="config must be a mapping, not 'tiny'"):
        tensor_shapes("tiny")  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match=r"form must be one of .*, not 'z'"):
        tensor_shapes(preset_config("tiny"), "z")  # type: ignore[arg-type]


# Counts and sizes of released files, from their pages and third-party listings.
def projection_bytes(name: str, bits: float) -> int:
    """Bytes of all projections at so many bits a weight, and of all else at two bytes."""
    shapes = tensor_shapes(preset_config(name))
    projected = sum(math.prod(s) for n, s in shapes.items() if "_proj.weight" in n)
    return round(projected * bits / 8) + 2 * (sum(map(math.prod, shapes.values())) - projected)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Ternary-Bonsai-1.7B", 484_049_216),
        ("Ternary-Bonsai-4B", 1_131_565_944),
        ("Ternary-Bonsai-8B", 2_303_661_704),
    ],
)
def test_sizes_of_ternary_bonsai_in_mlx(name: str, size: int) -> None:
    """All matrices with two bits, and a scale and a bias of fp16 for 128 weights; norms in fp16."""
    shapes = tensor_shapes(preset_config(name), "groups128").values()
    weights = sum(math.prod(shape) for shape in shapes if len(shape) == 2)
    norms = sum(math.prod(shape) for shape in shapes if len(shape) == 1)
    assert 0 < size - (weights // 4 + weights // 128 * 4 + 2 * norms) < 150_000  # the header


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [
        ("Falcon-E-1B-Instruct", 665),
        ("Falcon-E-3B-Instruct", 999),
        ("Falcon3-7B-Instruct-1.58bit", 3270),
    ],
)
def test_sizes_of_packed_falcons(name: str, megabytes: int) -> None:
    assert projection_bytes(name, 2) / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_falcon_e_has_as_many_tensors_as_its_gguf_file() -> None:
    """168 ternary ones, 49 norms, embedding and head."""
    shapes = tensor_shapes(preset_config("Falcon-E-1B-Instruct"))
    ternary = [name for name in shapes if "_proj.weight" in name]
    assert (len(ternary), len(shapes) - len(ternary)) == (168, 49 + 2)


@pytest.mark.parametrize("name", FAMILY_PRESETS)
def test_presets_of_families_are_read_by_their_family(name: str, tmp_path: Path) -> None:
    """Shapes shrink, all else stays."""
    config = preset_config(name)
    heads = config["num_attention_heads"] // config["num_key_value_heads"]
    config |= {
        "num_attention_heads": 2 * heads,
        "num_key_value_heads": 2,
        "hidden_size": 64 * heads,
    }
    config |= {"intermediate_size": 192, "num_hidden_layers": 1, "vocab_size": 300, "head_dim": 32}
    ids = {key: 1 for key in config if key.endswith("token_id")}
    form = "groups128" if config["model_type"] == "qwen3" or "TriLM" in name else "packed"
    form = "master" if config["model_type"] == "bitnet" else form
    make_checkpoint(
        tmp_path, config | ids, form=form, linear_class=None, tokenizer=False, dtype="F16",
        ternary_embedding="Bonsai" in name,
    )  # fmt: skip
    with BitNetModel(tmp_path, n_threads=1) as model:
        assert np.isfinite(model.forward([1, 2, 3])).all()
        grouped = model.info()["weight_format"].startswith("groups")
        assert grouped == (form == "groups128")
