"""What families see of a GGUF file: the config and the names of a Hugging Face checkpoint, or an
error that names the key, the type and the value."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs_extra
from gguf_writer import Stored, encode_gguf, f32, qwen3_metadata

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import FormatError, UnsupportedModelError
from ryzanstein_llm.formats import Checkpoint, open_checkpoint
from ryzanstein_llm.models.gguf_architectures import ARCHITECTURES
from ryzanstein_llm.models.gguf_names import translate
from ryzanstein_llm.models.gguf_refusals import NEUTRAL

Translated = Callable[..., Checkpoint]

EMBEDDING = Stored("token_embd.weight", 1, (7, 4), bytes(56))
PROJECTIONS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
HF_PROJECTIONS = [f"self_attn.{each}_proj" for each in "qkvo"]
HF_PROJECTIONS += [f"mlp.{each}_proj" for each in ("gate", "up", "down")]
OLD_SUB_NORMS = {"self_attn.inner_attn_ln": "attn_sub_norm", "mlp.ffn_layernorm": "ffn_sub_norm"}
SUB_NORMS = {"self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}

# architecture: model_type, class, activation, whether rows are interleaved, norms of a layer
EXPECTED: dict[str, tuple[str, str, str, bool, dict[str, str]]] = {
    "llama": ("llama", "LlamaForCausalLM", "silu", True, NORMS),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", "silu", False, NORMS),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", "silu", False, NORMS | HEAD_NORMS),
    "bitnet": ("bitnet", "BitnetForCausalLM", "silu", False, NORMS | OLD_SUB_NORMS),
    "bitnet-25": ("bitnet", "BitNetForCausalLM", "relu2", False, NORMS | SUB_NORMS),
    "bitnet-b1.58": ("bitnet", "BitNetForCausalLM", "relu2", False, NORMS | SUB_NORMS),
    "gemma3": (
        "gemma3_text",
        "Gemma3ForCausalLM",
        "gelu_pytorch_tanh",
        False,
        {
            "input_layernorm": "attn_norm",
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
            **HEAD_NORMS,
        },
    ),
    "hunyuan-dense": (
        "hunyuan_v1_dense",
        "HunYuanDenseV1ForCausalLM",
        "silu",
        False,
        NORMS
        | {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"},
    ),
}


def metadata_of(architecture: str = "qwen3", **changes: Any) -> dict[str, Any]:
    keys = qwen3_metadata(**changes)
    renamed = {key.replace("qwen3.", f"{architecture}.", 1): value for key, value in keys.items()}
    return renamed | {"general.architecture": architecture}


@pytest.fixture
def translated(tmp_path: Path) -> Translated:
    """translated(metadata, tensors) -> what `translate` makes of such a file."""

    def make(metadata: dict[str, Any] | None = None, *tensors: Stored) -> Checkpoint:
        path = tmp_path / "model.gguf"
        found = metadata_of() if metadata is None else metadata
        path.write_bytes(encode_gguf(found, [EMBEDDING, *tensors]))
        return translate(open_checkpoint(path))

    return make


def test_every_architecture_is_tested() -> None:
    assert EXPECTED.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", EXPECTED)
def test_names_are_those_of_the_hugging_face_model(
    translated: Translated, architecture: str
) -> None:
    norms = EXPECTED[architecture][4]
    wanted = {"model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    for layer in (0, 1, 27):
        at, block = f"model.layers.{layer}", f"blk.{layer}"
        for hf, own in {**norms, **dict(zip(HF_PROJECTIONS, PROJECTIONS, strict=True))}.items():
            wanted[f"{at}.{hf}.weight"] = f"{block}.{own}.weight"
    checkpoint = translated(metadata_of(architecture), *(f32(own, 1) for own in wanted.values()))
    wanted["model.embed_tokens.weight"] = "token_embd.weight"
    assert {name: checkpoint.info(name).name for name in checkpoint.names} == wanted


@pytest.mark.parametrize("architecture", EXPECTED)
def test_names_are_those_of_the_gguf_library(architecture: str) -> None:
    needs_extra("peers", "gguf")
    import gguf

    # the library knows one name for all of Microsoft's
    library = "bitnet" if architecture.startswith("bitnet") else architecture
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[library], 2)
    parts = [*EXPECTED[architecture][4].items()]
    parts += zip(HF_PROJECTIONS, PROJECTIONS, strict=True)
    compared = 0
    for hf, own in parts:
        found = names.get_name(f"model.layers.1.{hf}")
        if found is not None:  # the converter of hunyuan-dense renames two norms before
            assert found == f"blk.1.{own}"
            compared += 1
    assert compared >= len(parts) - 2
    assert names.get_name("model.embed_tokens") == "token_embd"
    assert names.get_name("model.norm") == "output_norm"


@pytest.mark.parametrize("architecture", EXPECTED)
def test_the_config_is_that_of_the_hugging_face_model(
    translated: Translated, architecture: str
) -> None:
    model_type, name, activation, interleaved, _ = EXPECTED[architecture]
    config = translated(metadata_of(architecture)).config
    wanted = {
        "model_type": model_type,
        "architectures": [name],
        "hidden_act": activation,
        "vocab_size": 7,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_interleave": interleaved,
        "tie_word_embeddings": True,
    }
    assert {key: config[key] for key in wanted} == wanted
    gemma = {"hidden_activation", "query_pre_attn_scalar", "norm_offset", "layer_types"}
    assert config.keys() - wanted.keys() == (gemma if architecture == "gemma3" else set())


def test_2b4t_under_the_name_bitnet_is_told_by_its_tokenizer(translated: Translated) -> None:
    keys = metadata_of("bitnet") | {"tokenizer.ggml.model": "gpt2"}
    checkpoint = translated(keys, f32("blk.0.ffn_sub_norm.weight", 1))
    assert checkpoint.config["architectures"] == ["BitNetForCausalLM"]
    assert checkpoint.config["hidden_act"] == "relu2"
    assert "model.layers.0.mlp.ffn_sub_norm.weight" in checkpoint


def test_values_that_are_missing_are_those_of_llama_cpp(translated: Translated) -> None:
    absent = ("attention.head_count_kv", "attention.key_length", "attention.value_length")
    changes = dict.fromkeys((*absent, "rope.freq_base"))
    config = translated(metadata_of("llama", **changes)).config
    assert (config["num_key_value_heads"], config["head_dim"]) == (4, 64)
    assert config["rope_theta"] == 10000.0


@pytest.mark.parametrize("value", [1e-5, 1e-6, 1e-12, 0.1, 1000042.0, 5e6])
def test_float32_becomes_the_short_number_that_was_meant(
    translated: Translated, value: float
) -> None:
    config = translated(metadata_of(**{"rope.freq_base": value})).config
    assert config["rope_theta"] == value
    assert np.float32(config["rope_theta"]) == np.float32(value)


def test_a_number_for_each_layer_is_one_number_if_all_are_equal(translated: Translated) -> None:
    equal = {"attention.head_count": np.array([4, 4], np.int32)}
    assert translated(metadata_of(**equal)).config["num_attention_heads"] == 4
    differing = {"feed_forward_length": np.array([768, 512], np.int32)}
    with pytest.raises(UnsupportedModelError, match=r"'qwen3.feed_forward_length' \[768, 512\]"):
        translated(metadata_of(**differing))


def test_a_head_of_its_own_is_not_tied(translated: Translated) -> None:
    config = translated(None, Stored("output.weight", 1, (7, 4), bytes(56))).config
    assert config["tie_word_embeddings"] is False


def test_special_tokens(translated: Translated) -> None:
    ids = {"bos": 1, "eos": 2, "eot": 5, "eom": 2, "padding": 0}
    keys = {f"tokenizer.ggml.{name}_token_id": value for name, value in ids.items()}
    config = translated(metadata_of() | keys).config
    assert config["bos_token_id"] == 1
    assert config["pad_token_id"] == 0
    assert config["eos_token_id"] == [2, 5]


def scaling(translated: Translated, **keys: Any) -> Any:
    changes = {f"rope.scaling.{key}": value for key, value in keys.items()}
    return translated(metadata_of(**changes)).config.get("rope_scaling")


def test_rope_scaling(translated: Translated) -> None:
    assert scaling(translated, type="none") is None
    assert scaling(translated, type="none", factor=4.0) is None
    assert scaling(translated, type="linear", factor=1.0) is None
    assert scaling(translated, type="linear", factor=0.0) is None
    linear = {"rope_type": "linear", "factor": 2.5}
    assert scaling(translated, type="linear", factor=2.5) == linear
    assert scaling(translated, factor=2.5) == linear
    assert translated(metadata_of(**{"rope.scale_linear": 2.5})).config["rope_scaling"] == linear
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16384}
    keys: dict[str, Any] = {"type": "yarn", "factor": 4.0, "original_context_length": 16384}
    assert scaling(translated, **keys) == yarn
    keys |= {"yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0, "attn_factor": 1.0}
    assert scaling(translated, **keys) == {**yarn, "beta_fast": 16.0, "beta_slow": 2.0}
    with pytest.raises(UnsupportedModelError, match=r"'qwen3.rope.scaling.type' 'longrope'"):
        scaling(translated, type="longrope", factor=4.0)


def test_gemma_says_which_layers_see_a_window(translated: Translated) -> None:
    without = translated(metadata_of("gemma3")).config
    assert without["layer_types"] == ["full_attention"] * 2
    assert without["norm_offset"] == 0
    assert without["query_pre_attn_scalar"] == 128
    keys = metadata_of("gemma3", block_count=7, **{"attention.sliding_window": 64})
    config = translated(keys).config
    local = ["sliding_attention"] * 5
    assert config["layer_types"] == [*local, "full_attention", "sliding_attention"]
    assert config["sliding_window"] == 64
    assert config["rope_local_base_freq"] == 10000.0
    keys |= {"gemma3.attention.sliding_window_pattern": 2, "gemma3.rope.freq_base_swa": 5000.0}
    config = translated(keys).config
    assert config["layer_types"][:3] == ["sliding_attention", "full_attention", "sliding_attention"]
    assert config["rope_local_base_freq"] == 5000.0


def test_int8_activations_are_known_of_microsofts_type(translated: Translated) -> None:
    i2_s = Stored("blk.0.attn_q.weight", 36, (1, 128), bytes(64))
    bitnet = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    for tensor in (i2_s, f32("blk.0.attn_q.scale", 1)):
        config = translated(metadata_of("llama"), tensor).config
        assert config["quantization_config"] == bitnet
    tq2_0 = Stored("blk.0.attn_q.weight", 35, (1, 256), bytes(66))
    assert "quantization_config" not in translated(metadata_of("llama"), tq2_0).config


def test_norms_biases_and_scales_of_projections(translated: Translated) -> None:
    tensors = {
        "blk.0.attn_q_norm_in.weight": "self_attn.q_proj.norm.weight",
        "blk.0.ffn_down_norm_in.weight": "mlp.down_proj.norm.weight",
        "blk.0.attn_k.bias": "self_attn.k_proj.bias",
        "blk.0.attn_output.scale": "self_attn.o_proj.weight_scale",
    }
    checkpoint = translated(None, *(f32(name, 1) for name in tensors))
    for name, wanted in tensors.items():
        assert checkpoint.info(f"model.layers.0.{wanted}").name == name


def test_the_chat_template(translated: Translated) -> None:
    assert translated().chat_template is None
    template = {"tokenizer.chat_template": "{{ messages }}"}
    assert translated(metadata_of() | template).chat_template == "{{ messages }}"
    with pytest.raises(FormatError, match=r"'tokenizer\.chat_template' must be a text, not 7"):
        translated(metadata_of() | {"tokenizer.chat_template": 7})


def test_the_chat_template_that_2b4t_was_not_trained_with_is_replaced(
    translated: Translated,
) -> None:
    wrong = "{{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' }}"
    template = translated(
        metadata_of("bitnet-b1.58") | {"tokenizer.chat_template": wrong}
    ).chat_template
    assert template is not None
    jinja2 = needs_extra("parity", "jinja2")
    messages = [{"role": "system", "content": "S "}, {"role": "user", "content": "U"}]
    text = jinja2.Template(template).render(
        messages=messages, bos_token="<|begin_of_text|>", add_generation_prompt=True
    )
    assert text == "<|begin_of_text|>System: S<|eot_id|>User: U<|eot_id|>Assistant: "


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "hybrid": (
        {"general.architecture": "qwen35"},
        "'qwen35': .*Gated DeltaNet.*supported: 'llama'",
    ),
    "vision": ({"general.architecture": "clip"}, "'clip': .*encoder"),
    "speech": ({"general.architecture": "vibevoice-asr"}, "'vibevoice-asr': .*speech"),
    "unknown": ({"general.architecture": "mamba"}, r"'mamba': not supported; supported: 'llama'"),
    "long name": ({"general.architecture": "x" * 5000}, "'x{199}\\.\\.\\.: not supported"),
    "adapter": ({"general.type": "adapter"}, r"'general\.type' 'adapter': only 'model'"),
    "Hadamard": ({"prism.hadamard.version": 1}, r"'prism\.hadamard\.version' 1: .*rotated"),
    "oxibonsai": ({"oxibonsai.quant_format": "x"}, r"'oxibonsai\.quant_format' 'x': "),
    "TQ2_0_G128": (
        {"general.quantization_version": "TQ2_0_G128"},
        r"'general\.quantization_version' 'TQ2_0_G128'",
    ),
    "five values": (
        {"general.quantization_provenance": "fermion-2"},
        r"'general\.quantization_provenance' 'fermion-2': .*five",
    ),
    "speech decoder": ({"general.name": "VibeVoice-ASR"}, r"'general\.name' 'VibeVoice-ASR'"),
    "experts": ({"qwen3.expert_count": 8}, r"'qwen3\.expert_count' 8"),
    "not causal": ({"qwen3.attention.causal": False}, r"'qwen3\.attention\.causal' False"),
    "soft cap": ({"qwen3.attn_logit_softcapping": 50.0}, r"softcapping' 50\.0"),
    "odd value": ({"qwen3.expert_count": [""]}, r"'qwen3\.expert_count' \[''\]"),
    "values that differ": ({"qwen3.expert_count": np.array([0, 8], np.int32)}, r"\[0, 8\]: diff"),
    "partial rotation": ({"qwen3.rope.dimension_count": 64}, r"dimension_count' 64: .*128"),
    "other values": ({"qwen3.attention.value_length": 64}, r"value_length' 64: .*128"),
    "window": ({"qwen3.attention.sliding_window": 128}, r"sliding_window' 128"),
    "yarn factor": ({"qwen3.rope.scaling.attn_factor": 1.5}, r"attn_factor' 1\.5"),
}


@pytest.mark.parametrize(("keys", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_families_cannot_compute_is_refused(
    translated: Translated, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as raised:
        translated(metadata_of() | keys)
    assert str(raised.value).startswith(str(tmp_path / "model.gguf"))
    assert len(str(raised.value)) < 1000


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"block_count": None}, r"'qwen3\.block_count' must be an integer in 1\.\.1024"),
    "many layers": ({"block_count": 1025}, "not 1025"),
    "a text": ({"embedding_length": "256"}, "not '256'"),
    "a flag": ({"embedding_length": True}, "not True"),
    "a fraction": ({"embedding_length": 256.5}, "not 256.5"),
    "zero": ({"attention.head_count": 0}, r"'qwen3\.attention\.head_count' .* not 0"),
    "NaN": ({"rope.freq_base": math.nan}, r"'qwen3\.rope\.freq_base' must be a positive number"),
    "infinite": ({"rope.freq_base": math.inf}, "not inf"),
    "no eps": ({"attention.layer_norm_rms_epsilon": None}, "rms_epsilon' must be .* not None"),
    "no head size": (
        {"attention.key_length": None, "attention.head_count": 3},
        r"'qwen3\.embedding_length' must be a multiple of 3 heads, not 256",
    ),
    "empty list": ({"feed_forward_length": np.array([], np.int32)}, "feed_forward_length'"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused(
    translated: Translated, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        translated(metadata_of(**changes))


READ = [key for key in qwen3_metadata() if key != "general.architecture"]
READ += [f"qwen3.{key}" for key in NEUTRAL]
READ += ["general.architecture", "general.type", "general.name", "general.quantization_version"]
READ += ["general.quantization_provenance", "general.alignment", "oxibonsai.quant_format"]
READ += ["split.no", "split.count", "split.tensors.count", "qwen3.attention.sliding_window"]
READ += [f"qwen3.rope.scaling.{key}" for key in ("type", "factor", "original_context_length")]
READ += ["tokenizer.chat_template", "tokenizer.ggml.model", "tokenizer.ggml.eos_token_id"]
ODD = [
    np.array([], np.int32), np.array([1, 2], np.float32), np.array([True, False]),
    np.arange(1_000), [], ["a"] * 100_000, "", "x" * 100_000, True, math.nan, -1.5,
    np.uint64(2**64 - 1), np.int64(-(2**63)),
]  # fmt: skip


@pytest.mark.parametrize("key", READ)
def test_a_value_of_any_kind_is_used_or_refused_by_name(translated: Translated, key: str) -> None:
    for value in ODD:
        try:
            translated(metadata_of() | {key: value})
        except (FormatError, UnsupportedModelError) as error:
            message = str(error)
        else:
            continue
        assert key in message
        assert len(message) < 1000


def test_an_architecture_must_be_named(translated: Translated) -> None:
    with pytest.raises(FormatError, match=r"'general\.architecture' must be a text, not None"):
        translated({"general.name": "x"})


def test_a_file_without_an_embedding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(encode_gguf(metadata_of()))
    with pytest.raises(FormatError, match=r"tensor 'token_embd\.weight' is missing"):
        translate(open_checkpoint(path))


def test_an_embedding_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(encode_gguf(metadata_of(), [f32("token_embd.weight", 1)]))
    with pytest.raises(FormatError, match=r"'token_embd\.weight': expected .*\(1,\)"):
        translate(open_checkpoint(path))


TYPES = {
    # type id, bytes of (2, 256), message
    "Q4_1": (3, 320, "type Q4_1 is not ternary"),
    "Q8_0": (8, 544, "type Q8_0 is not ternary"),
    "Q1_0": (41, 72, "type Q1_0 is binary, not ternary"),
    "TL1": (38, 160, "type TL1 is not supported: the order of its weights"),
    "I8_S": (37, 512, "type I8_S is of eight bits"),
    "IQ2_BN_R4": (335, 136, "type IQ2_BN_R4 is a form of IQ2_BN with four rows"),
}


@pytest.mark.parametrize(("type_id", "nbytes", "message"), TYPES.values(), ids=TYPES)
def test_projections_of_other_types_are_refused(
    translated: Translated, type_id: int, nbytes: int, message: str
) -> None:
    projection = Stored("blk.1.ffn_up.weight", type_id, (2, 256), bytes(nbytes))
    with pytest.raises(UnsupportedModelError, match=rf"tensor 'blk\.1\.ffn_up\.weight': {message}"):
        translated(None, projection)


def test_blocks_of_floats_are_for_the_embedding_and_the_head_only(translated: Translated) -> None:
    translated(None, Stored("output.weight", 14, (1, 256), bytes(210)))
    with pytest.raises(UnsupportedModelError, match=r"'output_norm\.weight': type Q6_K is not fl"):
        translated(None, Stored("output_norm.weight", 14, (1, 256), bytes(210)))


@pytest.mark.parametrize(
    "name",
    ["rope_freqs.weight", "blk.0.attn_qkv.weight", "blk.x.attn_q.weight", "blk.².attn_q.weight",
     "blk.0.attn_sub_norm.weight", "blk.0.unknown_norm_in.weight", "blk.0.attn_norm.bias", "blk"],
)  # fmt: skip
def test_tensors_without_a_place_are_refused(translated: Translated, name: str) -> None:
    with pytest.raises(
        UnsupportedModelError, match=f"1 tensors have no place in a qwen3 model.*'{name}'"
    ):
        translated(None, f32(name, 1))


def test_other_checkpoints_stay_as_they_are() -> None:
    with open_checkpoint(None) as checkpoint:
        assert translate(checkpoint) is checkpoint


def test_a_model_says_why_it_refuses_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(encode_gguf(metadata_of("mamba"), [EMBEDDING]))
    with pytest.raises(UnsupportedModelError, match=r"model\.gguf: metadata .*'mamba'"):
        BitNetModel(path)
