"""Checkpoints whose config or tensors make no sense: each raises a typed error that names the
file, the tensor or key, and the value. Damaged files are in `formats/`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import pack_rows, quantization_config
from spoilt import CONFIG, refuses, write_spoilt

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.errors import FormatError, UnsupportedModelError
from ryzanstein_llm.formats import Tensor, open_checkpoint
from ryzanstein_llm.models.weights import refuse_not_finite
from ryzanstein_llm.packed_cache import loading

ATTENTION, MLP = "model.layers.1.self_attn", "model.layers.1.mlp"


def put(name: str, tensor: np.ndarray) -> Callable[[dict[str, np.ndarray]], None]:
    """Spoils a checkpoint by adding or replacing one tensor."""
    return lambda tensors: tensors.update({name: tensor})


def test_the_unspoilt_checkpoint_loads(tmp_path: Path) -> None:
    with BitNetModel(write_spoilt(tmp_path), n_threads=1) as model:
        assert np.isfinite(model.forward([1, 2, 3])).all()


# ---- what the config asks for ------------------------------------------------------------------

UNSUPPORTED = {
    "model_type": "gpt2",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "tanh",
    "rope_scaling": {"type": "dynamic", "factor": 4.0},
    "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0},
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_this_version_cannot_run_is_refused(key: str, tmp_path: Path) -> None:
    value = UNSUPPORTED[key]
    named = value.get("type", value.get("rope_type")) if isinstance(value, dict) else value
    with refuses(UnsupportedModelError, key.split("_")[0], named):
        BitNetModel(write_spoilt(tmp_path, {key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quant_method", "gptq"),
        ("linear_class", "triton"),
        ("use_rms_norm", True),
        ("modules_to_not_convert", ["model.layers.0.mlp.down_proj"]),
    ],
)
def test_quantisation_this_version_cannot_run_is_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    quantization = {**CONFIG["quantization_config"], key: value}
    with refuses(UnsupportedModelError, key, value):
        BitNetModel(write_spoilt(tmp_path, {"quantization_config": quantization}))


def test_a_config_without_model_type_is_refused(tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "model_type", None):
        BitNetModel(write_spoilt(tmp_path, {"model_type": None}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", -1),
        ("vocab_size", 50.0),
        ("vocab_size", "50"),
        ("vocab_size", True),
        ("vocab_size", 10**30),
        ("hidden_size", 49),  # no multiple of 3 heads
        ("hidden_size", -48),
        ("intermediate_size", 0),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 1.5),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 2),  # no divisor of 3 heads
        ("num_key_value_heads", 0),
        ("head_dim", 15),
        ("head_dim", 0),
        ("head_dim", 1 << 20),
        ("max_position_embeddings", 0),
        ("max_position_embeddings", "long"),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", -1e-5),
        ("rms_norm_eps", math.nan),
        ("rms_norm_eps", "1e-5"),
        ("rms_norm_eps", 1e28),
        ("rope_theta", 0),
        ("rope_theta", -10000.0),
        ("rope_theta", math.inf),
        ("tie_word_embeddings", "yes"),
        ("tie_word_embeddings", "false"),
        ("attention_bias", "false"),
        ("quantization_config", "bitnet"),
        ("rope_parameters", [10000.0]),
        ("eos_token_id", 50),
        ("eos_token_id", [1, -1]),
        ("eos_token_id", "</s>"),
        ("bos_token_id", 1.5),
        ("bos_token_id", 4096),
    ],
)
def test_config_values_that_make_no_sense_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    shown = value[-1] if isinstance(value, list) else value
    with refuses(FormatError, "config.json", key, shown):
        BitNetModel(write_spoilt(tmp_path, {key: value}))


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("rope_thetha", "rope_theta"),
        ("rms_norm_epsilon", "rms_norm_eps"),
        ("tie_word_embedding", "tie_word_embeddings"),
        ("tie_words_embeddings", "tie_word_embeddings"),
        ("num_key_value_head", "num_key_value_heads"),
        ("n_key_value_heads", "num_key_value_heads"),
        ("max_position_embedings", "max_position_embeddings"),
        ("hidden_activ", "hidden_act"),
        ("quantisation_config", "quantization_config"),
        ("rope_scalling", "rope_scaling"),
        ("Rope_Theta", "rope_theta"),
        ("eos_token_ids", "eos_token_id"),
    ],
)
def test_a_key_that_looks_like_a_missing_one_is_refused(
    misspelt: str, meant: str, tmp_path: Path
) -> None:
    changes = {meant: None, misspelt: CONFIG.get(meant, 1)}
    with refuses(FormatError, "config.json", misspelt, f"did you mean {meant!r}?"):
        BitNetModel(write_spoilt(tmp_path, changes))


@pytest.mark.parametrize("misspelt", ["linear_clas", "quant_methods", "modules_to_not_converts"])
def test_a_key_of_the_quantisation_that_looks_like_a_missing_one_is_refused(
    misspelt: str, tmp_path: Path
) -> None:
    known = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    meant = next(key for key in (*known, "modules_to_not_convert") if key[:6] == misspelt[:6])
    quantization = {key: value for key, value in known.items() if key != meant} | {misspelt: "x"}
    with refuses(FormatError, f"quantization_config.{misspelt}", f"did you mean {meant!r}?"):
        BitNetModel(write_spoilt(tmp_path, {"quantization_config": quantization}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_multiplier", 0.0156),
        ("embedding_multiplier", 12),
        ("residual_multiplier", 0.22),
        ("logits_scaling", 8),
        ("logit_scale", 0.0625),
        ("final_logit_softcapping", 30.0),
        ("partial_rotary_factor", 0.5),
        ("no_rope_layers", [1, 1, 0]),
        ("use_parallel_residual", True),
        ("num_local_experts", 8),
    ],
)
def test_keys_with_which_other_families_change_the_graph_are_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    with refuses(UnsupportedModelError, "config.json", key, value):
        BitNetModel(write_spoilt(tmp_path, {key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedding_multiplier", 1.0),
        ("logits_scaling", 1),
        ("attn_logit_softcapping", None),
        ("partial_rotary_factor", 1.0),
        ("no_rope_layers", []),
        ("num_local_experts", 0),
    ],
)
def test_keys_of_other_families_may_have_values_that_change_nothing(
    key: str, value: Any, tmp_path: Path
) -> None:
    BitNetModel(write_spoilt(tmp_path, {key: value}), n_threads=1).close()


def test_keys_that_other_programs_wrote_are_no_misspellings(tmp_path: Path) -> None:
    others = {
        "attention_dropout": 0.0, "auto_map": {}, "initializer_range": 0.02, "use_cache": True,
        "transformers_version": "5.0", "pretraining_tp": 1, "_name_or_path": "x",
        "torch_dtype": "x", "is_bitnet_config": True, "unk_token_id": 3, "rope_theta_history": [1],
    }  # fmt: skip
    with BitNetModel(write_spoilt(tmp_path, others), n_threads=1) as model:
        assert model.config.rope_theta == CONFIG["rope_theta"]


@pytest.mark.parametrize("quantization", [None, {}, {"linear_class": "autobitlinear"}])
def test_packed_weights_need_a_config_that_says_how_to_scale_them(
    quantization: Any, tmp_path: Path
) -> None:
    with refuses(FormatError, "quantization_config"):
        BitNetModel(write_spoilt(tmp_path, {"quantization_config": quantization}))


def test_two_spellings_of_the_rotary_embedding_must_agree(tmp_path: Path) -> None:
    with refuses(FormatError, "rope_theta", 10000.0, 500000.0):
        BitNetModel(write_spoilt(tmp_path, {"rope_parameters": {"rope_theta": 500000.0}}))


def test_a_head_of_its_own_contradicts_tied_embeddings(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["lm_head.weight"][49, 47] += 1

    with refuses(FormatError, "tie_word_embeddings", "lm_head.weight"):
        BitNetModel(write_spoilt(tmp_path, spoil=spoil))


def test_a_tied_head_that_is_stored_twice_is_accepted(tmp_path: Path) -> None:
    spoil = lambda tensors: tensors.update(  # noqa: E731
        {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}
    )
    with BitNetModel(write_spoilt(tmp_path / "twice", spoil=spoil), n_threads=1) as model:
        twice = model.forward([1, 2, 3])
    with BitNetModel(write_spoilt(tmp_path / "once"), n_threads=1) as model:
        assert (twice == model.forward([1, 2, 3])).all()


def test_a_head_that_was_lost_is_not_replaced_by_the_embedding(tmp_path: Path) -> None:
    with refuses(FormatError, "tie_word_embeddings", "lm_head.weight"):
        BitNetModel(write_spoilt(tmp_path, {"tie_word_embeddings": False}))


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
)
def test_config_keys_without_which_nothing_is_known_are_required(key: str, tmp_path: Path) -> None:
    with refuses(FormatError, "config.json", key):
        BitNetModel(write_spoilt(tmp_path, {key: None}))


@pytest.mark.parametrize("value", [["relu2"], {"name": "relu2"}, 2])
def test_an_activation_that_is_no_name_is_refused(value: Any, tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "hidden_act", value):
        BitNetModel(write_spoilt(tmp_path, {"hidden_act": value}))


# ---- tensors that do not fit the config --------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tensor", "expected", "found"),
    [
        ({"vocab_size": 51}, "model.embed_tokens.weight", (51, 48), (50, 48)),
        ({"intermediate_size": 68}, "mlp.gate_proj.weight", (17, 48), (16, 48)),
        ({"num_key_value_heads": 3}, "self_attn.k_proj.weight", (12, 48), (4, 48)),
        ({"head_dim": 32}, "self_attn.q_proj.weight", (24, 48), (12, 48)),
    ],
)
def test_shapes_other_than_the_configs_are_refused(
    config: dict[str, Any], tensor: str, expected: tuple, found: tuple, tmp_path: Path
) -> None:
    with refuses(FormatError, "model.safetensors", tensor, expected, found):
        BitNetModel(write_spoilt(tmp_path, config))


def test_more_layers_in_the_config_than_in_the_file(tmp_path: Path) -> None:
    with refuses(FormatError, "model.safetensors", "model.layers.2.", "missing"):
        BitNetModel(write_spoilt(tmp_path, {"num_hidden_layers": 3}))


def test_fewer_layers_in_the_config_than_in_the_file(tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "model.layers.1."):
        BitNetModel(write_spoilt(tmp_path, {"num_hidden_layers": 1}))


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.1.input_layernorm.weight",
        f"{ATTENTION}.attn_sub_norm.weight",
        f"{ATTENTION}.v_proj.weight",
        f"{ATTENTION}.v_proj.weight_scale",
        f"{MLP}.ffn_sub_norm.weight",
        f"{MLP}.down_proj.weight",
        f"{MLP}.up_proj.weight_scale",
    ],
)
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    with refuses(FormatError, "model.safetensors", repr(name), "missing"):
        BitNetModel(write_spoilt(tmp_path, spoil=lambda tensors: tensors.pop(name)))


def test_a_tensor_without_a_place_in_the_graph_is_named(tmp_path: Path) -> None:
    # A bias that is ignored would be silent degradation.
    name = f"{ATTENTION}.q_proj.bias"
    with refuses(UnsupportedModelError, name):
        BitNetModel(write_spoilt(tmp_path, spoil=put(name, np.zeros(48, np.float32))))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.embed_tokens.weight", np.zeros((50, 48), np.int8)),
        ("model.norm.weight", np.zeros(48, np.uint8)),
        (f"{ATTENTION}.q_proj.weight", np.zeros((12, 48), np.int8)),
        (f"{MLP}.down_proj.weight_scale", np.ones(1, np.uint8)),
    ],
)
def test_a_tensor_of_the_wrong_dtype_is_named(
    name: str, tensor: np.ndarray, tmp_path: Path
) -> None:
    found = {"int8": "I8", "uint8": "U8"}[tensor.dtype.name]
    with refuses(FormatError, "model.safetensors", repr(name), found):
        BitNetModel(write_spoilt(tmp_path, spoil=put(name, tensor)))


@pytest.mark.parametrize("position", [(0, 0), (3, 47), (11, 20)])
@pytest.mark.parametrize("shift", [0, 2, 4, 6])
def test_code_three_in_packed_weights_is_refused_wherever_it_is(
    position: tuple[int, int], shift: int, tmp_path: Path
) -> None:
    name = f"{ATTENTION}.q_proj.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][position] |= 3 << shift

    with refuses(FormatError, "model.safetensors", repr(name), "code 3"):
        BitNetModel(write_spoilt(tmp_path, spoil=spoil))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_an_impossible_weight_scale_is_refused(
    linear_class: str, value: float, tmp_path: Path
) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    config = {"quantization_config": quantization_config("packed", linear_class)}
    with refuses(FormatError, "model.safetensors", repr(name), value):
        BitNetModel(
            write_spoilt(
                tmp_path, config, lambda t: t.update({name: np.array([value], np.float32)})
            )
        )


def test_a_weight_scale_whose_reciprocal_overflows_is_refused(tmp_path: Path) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    config = {"quantization_config": quantization_config("packed", "bitlinear")}
    with refuses(FormatError, repr(name)):
        BitNetModel(
            write_spoilt(
                tmp_path, config, lambda t: t.update({name: np.array([1e-39], np.float32)})
            )
        )


def test_a_weight_scale_of_several_numbers_is_refused(tmp_path: Path) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    with refuses(FormatError, "model.safetensors", repr(name), (2,)):
        BitNetModel(write_spoilt(tmp_path, spoil=put(name, np.ones(2, np.float32))))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_master_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    name = f"{MLP}.down_proj.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][17, 5] = value

    with refuses(FormatError, "model.safetensors", repr(name)):
        BitNetModel(write_spoilt(tmp_path, spoil=spoil, form="master"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_norm_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    name = f"{ATTENTION}.attn_sub_norm.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][7] = value

    with refuses(FormatError, "model.safetensors", repr(name), value):
        BitNetModel(write_spoilt(tmp_path, spoil=spoil))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_embedding_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.embed_tokens.weight"][3, 0] = bad

    with refuses(FormatError, "model.embed_tokens.weight", "NaN or infinite"):
        BitNetModel(write_spoilt(tmp_path, spoil=spoil), n_threads=1)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_embedding_that_is_not_the_head_and_is_not_finite_is_refused(
    tmp_path: Path, bad: float, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No screen looks at it, and `forward` would give other bits in every tier."""
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)
    name = "model.embed_tokens.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors[name].copy()
        tensors[name][3, 47] = bad

    path = write_spoilt(tmp_path / "model", {"tie_word_embeddings": False}, spoil)
    for _ in range(2):  # what was packed before the weight was found is of no use
        with refuses(FormatError, "model.safetensors", repr(name), "row 3, column 47"):
            BitNetModel(path, n_threads=1, packed_cache=tmp_path / "cache" if cached else False)


@pytest.mark.parametrize("row", [0, 1, 2**20 // 3, 399_999])
@pytest.mark.parametrize(
    ("dtype", "finite", "infinite"),
    [
        ("BF16", [0x7F7F, 0xFF7F, 0x0001], [0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF]),
        ("F16", [0x7BFF, 0xFBFF, 0x0001], [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF]),
        ("F32", [0x7F7FFFFF, 0xFF7FFFFF, 1], [0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF]),
    ],
)
def test_every_weight_that_is_not_finite_is_found(
    tmp_path: Path, dtype: str, finite: list[int], infinite: list[int], row: int
) -> None:
    with open_checkpoint(write_spoilt(tmp_path)) as checkpoint:
        name = "model.embed_tokens.weight"
        bits = np.zeros((400_000, 3), np.uint32 if dtype == "F32" else np.uint16)
        floats = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
        tensor = Tensor(name, dtype, bits.view(floats[dtype]))
        for each in finite:
            bits[row, 2] = each
            refuse_not_finite(checkpoint, tensor)
        for each in infinite:
            bits[row, 2] = each
            with refuses(FormatError, repr(name), f"row {row}, column 2"):
                refuse_not_finite(checkpoint, tensor)


def test_logits_that_are_not_finite_are_not_turned_into_tokens(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:  # finite weights that overflow
        tensors["model.layers.0.mlp.down_proj.weight_scale"][:] = 3e38

    with BitNetModel(write_spoilt(tmp_path, spoil=spoil), n_threads=1) as model:
        for options in ({}, {"temperature": 1.0, "seed": 0}):
            with refuses(FormatError, "logits", "nan"):
                model.generate([3], max_tokens=1, return_result=True, **options)
        with refuses(FormatError, "logits"):
            model.perplexity([3, 4, 5])


def test_matrices_of_zeros_are_no_error(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{MLP}.up_proj.weight"] = pack_rows(np.zeros((64, 48), np.int8))

    with BitNetModel(write_spoilt(tmp_path, spoil=spoil), n_threads=1) as model:
        assert np.isfinite(model.forward([1, 2, 3])).all()


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": "much"}, {"top_k": 1.5}])
def test_generation_config_out_of_range_names_the_file(
    values: dict[str, Any], tmp_path: Path
) -> None:
    write_spoilt(tmp_path)
    stored = json.dumps({"do_sample": True, **values})
    (tmp_path / "generation_config.json").write_text(stored, encoding="utf-8")
    with BitNetModel(tmp_path, n_threads=1) as model:
        ((name, value),) = values.items()
        with refuses(FormatError, "generation_config.json", name, value):
            SamplingParams.from_checkpoint(model)
