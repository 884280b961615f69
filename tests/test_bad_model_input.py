"""Checkpoints and arguments that make no sense: each raises a typed error that names the thing
and its value. Damaged files are in `formats/`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import (
    bitnet_config,
    pack_rows,
    quantization_config,
    random_tensors,
    write_checkpoint,
)

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.errors import (
    ClosedError,
    ContextOverflowError,
    EmptyPromptError,
    FormatError,
    InvalidParameterError,
    RyzansteinError,
    TokenizerMissingError,
    UnsupportedModelError,
)

# A checkpoint that loads; every test below spoils one thing in it.
CONFIG = bitnet_config(
    hidden_size=48,
    intermediate_size=64,
    num_attention_heads=3,
    num_key_value_heads=1,
    vocab_size=50,
    max_position_embeddings=32,
    quantization_config=quantization_config("packed", "autobitlinear"),
)
ATTENTION, MLP = "model.layers.1.self_attn", "model.layers.1.mlp"


def write(
    directory: Path,
    config: dict[str, Any] | None = None,
    spoil: Callable[[dict[str, np.ndarray]], object] | None = None,
    form: str = "packed",
) -> Path:
    """A tiny checkpoint with changed config keys (None deletes one) and spoilt tensors."""
    changed = {**CONFIG, **(config or {})}
    changed = {key: value for key, value in changed.items() if value is not None}
    tensors = random_tensors(CONFIG, form, "autobitlinear", seed=1)
    if spoil is not None:
        spoil(tensors)
    return write_checkpoint(directory, changed, tensors)


@contextmanager
def refuses(error: type[RyzansteinError], *mentioned: object) -> Iterator[None]:
    """Expects an error of exactly this type whose message holds all of `mentioned`."""
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    missing = [part for part in map(str, mentioned) if part not in str(caught.value)]
    assert not missing, f"{caught.value} does not mention {missing}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    with BitNetModel(write(tmp_path_factory.mktemp("good")), n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


def test_the_unspoilt_checkpoint_loads(model: BitNetModel) -> None:
    assert np.isfinite(model.forward([1, 2, 3])).all()


# ---- what the config asks for ------------------------------------------------------------------

UNSUPPORTED = {
    "model_type": "gpt2",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "tanh",
    "attention_bias": True,
    "rope_scaling": {"type": "yarn", "factor": 4.0},
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0},
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_this_version_cannot_run_is_refused(key: str, tmp_path: Path) -> None:
    value = UNSUPPORTED[key]
    named = value.get("type", value.get("rope_type")) if isinstance(value, dict) else value
    with refuses(UnsupportedModelError, key.split("_")[0], named):
        BitNetModel(write(tmp_path, {key: value}))


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
        BitNetModel(write(tmp_path, {"quantization_config": quantization}))


def test_a_config_without_model_type_is_refused(tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "model_type", None):
        BitNetModel(write(tmp_path, {"model_type": None}))


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
        ("rope_theta", 0),
        ("rope_theta", -10000.0),
        ("rope_theta", math.inf),
        ("tie_word_embeddings", "yes"),
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
        BitNetModel(write(tmp_path, {key: value}))


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
)
def test_config_keys_without_which_nothing_is_known_are_required(key: str, tmp_path: Path) -> None:
    with refuses(FormatError, "config.json", key):
        BitNetModel(write(tmp_path, {key: None}))


@pytest.mark.parametrize("value", [["relu2"], {"name": "relu2"}, 2])
def test_an_activation_that_is_no_name_is_refused(value: Any, tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "hidden_act", value):
        BitNetModel(write(tmp_path, {"hidden_act": value}))


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
        BitNetModel(write(tmp_path, config))


def test_more_layers_in_the_config_than_in_the_file(tmp_path: Path) -> None:
    with refuses(FormatError, "model.safetensors", "model.layers.2.", "missing"):
        BitNetModel(write(tmp_path, {"num_hidden_layers": 3}))


def test_fewer_layers_in_the_config_than_in_the_file(tmp_path: Path) -> None:
    with refuses(UnsupportedModelError, "model.layers.1."):
        BitNetModel(write(tmp_path, {"num_hidden_layers": 1}))


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
        BitNetModel(write(tmp_path, spoil=lambda tensors: tensors.pop(name)))


def test_a_tensor_without_a_place_in_the_graph_is_named(tmp_path: Path) -> None:
    # A bias that is ignored would be silent degradation.
    name = f"{ATTENTION}.q_proj.bias"
    with refuses(UnsupportedModelError, name):
        BitNetModel(write(tmp_path, spoil=lambda t: t.update({name: np.zeros(48, np.float32)})))


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
        BitNetModel(write(tmp_path, spoil=lambda tensors: tensors.update({name: tensor})))


@pytest.mark.parametrize("position", [(0, 0), (3, 47), (11, 20)])
@pytest.mark.parametrize("shift", [0, 2, 4, 6])
def test_code_three_in_packed_weights_is_refused_wherever_it_is(
    position: tuple[int, int], shift: int, tmp_path: Path
) -> None:
    name = f"{ATTENTION}.q_proj.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][position] |= 3 << shift

    with refuses(FormatError, "model.safetensors", repr(name), "code 3"):
        BitNetModel(write(tmp_path, spoil=spoil))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_an_impossible_weight_scale_is_refused(
    linear_class: str, value: float, tmp_path: Path
) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    config = {"quantization_config": quantization_config("packed", linear_class)}
    with refuses(FormatError, "model.safetensors", repr(name), value):
        BitNetModel(
            write(tmp_path, config, lambda t: t.update({name: np.array([value], np.float32)}))
        )


def test_a_weight_scale_whose_reciprocal_overflows_is_refused(tmp_path: Path) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    config = {"quantization_config": quantization_config("packed", "bitlinear")}
    with refuses(FormatError, repr(name)):
        BitNetModel(
            write(tmp_path, config, lambda t: t.update({name: np.array([1e-39], np.float32)}))
        )


def test_a_weight_scale_of_several_numbers_is_refused(tmp_path: Path) -> None:
    name = f"{MLP}.gate_proj.weight_scale"
    with refuses(FormatError, "model.safetensors", repr(name), (2,)):
        BitNetModel(write(tmp_path, spoil=lambda t: t.update({name: np.ones(2, np.float32)})))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_master_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    name = f"{MLP}.down_proj.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][17, 5] = value

    with refuses(FormatError, "model.safetensors", repr(name)):
        BitNetModel(write(tmp_path, spoil=spoil, form="master"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_norm_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    name = f"{ATTENTION}.attn_sub_norm.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][7] = value

    with refuses(FormatError, "model.safetensors", repr(name), value):
        BitNetModel(write(tmp_path, spoil=spoil))


def test_logits_that_are_not_finite_are_not_turned_into_tokens(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.embed_tokens.weight"][3, 0] = math.nan

    with BitNetModel(write(tmp_path, spoil=spoil), n_threads=1) as model:
        for options in ({}, {"temperature": 1.0, "seed": 0}):
            with refuses(FormatError, "logits", "nan"):
                model.generate([3], max_tokens=1, return_result=True, **options)


def test_matrices_of_zeros_are_no_error(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{MLP}.up_proj.weight"] = pack_rows(np.zeros((64, 48), np.int8))

    with BitNetModel(write(tmp_path, spoil=spoil), n_threads=1) as model:
        assert np.isfinite(model.forward([1, 2, 3])).all()


# ---- arguments ---------------------------------------------------------------------------------

NOT_COUNTS = [-1, 1.5, "2", True, math.nan]


@pytest.mark.parametrize("value", [0, *NOT_COUNTS, 10**6])
def test_n_threads(value: Any) -> None:
    with refuses(InvalidParameterError, "n_threads", value):
        BitNetModel(n_threads=value)


@pytest.mark.parametrize("value", [0, *NOT_COUNTS, 513, 10**12])
def test_context_length(value: Any) -> None:
    with refuses(InvalidParameterError, "context_length", value):
        BitNetModel(context_length=value)


@pytest.mark.parametrize("value", ["float8", "", 16, np.float32])
def test_kv_dtype(value: Any) -> None:
    with refuses(InvalidParameterError, "kv_dtype", value):
        BitNetModel(kv_dtype=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("max_tokens", value) for value in [*NOT_COUNTS, 10**12]],
        *[("temperature", value) for value in [-1, -1e-9, math.nan, math.inf, 1e6, "hot", True]],
        *[("top_p", value) for value in [0, 2, -0.5, 1.0001, math.nan, "0.9"]],
        *[("top_k", value) for value in [*NOT_COUNTS, 10**12]],
        *[("min_p", value) for value in [-0.1, 1.1, math.nan]],
        *[("typical_p", value) for value in [0, 1.1, math.nan]],
        *[("repetition_penalty", value) for value in [0, -1, math.nan, math.inf]],
        *[("presence_penalty", value) for value in [math.nan, -1000, "x"]],
        *[("frequency_penalty", value) for value in [math.inf, 1000]],
        *[("seed", value) for value in [-1, 1.5, 2**64, "x"]],
        ("ignore_eos", "yes"),
        ("ignore_eos", 1),
        ("sampling", {"temperature": 1.0}),
    ],
)
def test_generation_parameters_out_of_range(demo: BitNetModel, name: str, value: Any) -> None:
    with refuses(InvalidParameterError, name, value):
        demo.generate("Once", **{name: value})
    with refuses(InvalidParameterError, name, value):
        demo.stream("Once", **{name: value})  # at once, not at the first piece
    with demo.session() as session, refuses(InvalidParameterError, name, value):
        session.generate("Once", **{name: value})


@pytest.mark.parametrize("stop", ["", [""], ["end", ""], [1], [b"end"], 5])
def test_stop_strings_that_are_none(demo: BitNetModel, stop: Any) -> None:
    with refuses(InvalidParameterError, "stop"):
        demo.generate("Once", max_tokens=1, stop=stop)


def test_a_misspelt_parameter_is_named(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "temprature"):
        demo.generate("Once", temprature=0.5)


@pytest.mark.parametrize(("name", "value"), [("temperature", -1), ("top_p", 0), ("seed", -1)])
def test_sampling_params_check_themselves(name: str, value: Any) -> None:
    with refuses(InvalidParameterError, name, value):
        SamplingParams(**{name: value})


BAD_IDS = [[-1], [50], [3, 50], [2**70], [1.0], ["a"], [None], [True], [[1, 2]], [b"a"]]


@pytest.mark.parametrize("ids", BAD_IDS)
def test_token_ids_out_of_range(model: BitNetModel, ids: list[Any]) -> None:
    position = f"[{len(ids) - 1}]"
    with refuses(InvalidParameterError, f"prompt{position}", ids[-1]):
        model.generate(ids, max_tokens=1, return_result=True)
    with refuses(InvalidParameterError, f"ids{position}", ids[-1]):
        model.forward(ids)
    with refuses(InvalidParameterError, position, ids[-1]):
        model.perplexity([1, 2, *ids][-len(ids) :])


@pytest.mark.parametrize("ids", [[-1], [4096], [1.5]])
def test_ids_without_text(demo: BitNetModel, ids: list[Any]) -> None:
    with refuses(InvalidParameterError, "ids[0]", ids[0]):
        demo.detokenize(ids)


@pytest.mark.parametrize("prompt", [None, 5, b"Once", 1.5, np.zeros((2, 2), np.int64), object()])
def test_prompts_that_are_neither_text_nor_ids(demo: BitNetModel, prompt: Any) -> None:
    with refuses(InvalidParameterError, "prompt"):
        demo.generate(prompt, max_tokens=1)


@pytest.mark.parametrize("text", [None, 5, b"Once", ["Once"]])
def test_text_that_is_no_text(demo: BitNetModel, text: Any) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.tokenize(text)


def test_text_that_unicode_cannot_encode(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.generate("a lone surrogate: \ud800", max_tokens=1)


def test_prompts_longer_than_the_context(model: BitNetModel, demo: BitNetModel) -> None:
    with refuses(ContextOverflowError, 33, 32):
        model.generate([1] * 33, return_result=True)
    with model.session() as session, refuses(ContextOverflowError, 33, 32):
        session.generate([1] * 33, return_result=True)
    with refuses(ContextOverflowError, 513, 512):
        demo.stream([1] * 513)  # at once, not at the first piece
    with pytest.raises(ContextOverflowError) as caught:
        model.forward([1] * 33)
    assert (caught.value.needed, caught.value.context_length) == (33, 32)


def test_a_cache_that_is_full(model: BitNetModel) -> None:
    cache = model.new_cache()
    model.forward([1] * 30, cache)
    with refuses(ContextOverflowError, 33, 32):
        model.forward([1, 2, 3], cache)
    assert len(cache) == 30


def test_a_cache_of_another_model(model: BitNetModel, demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "cache"):
        model.forward([1], demo.new_cache())
    with refuses(InvalidParameterError, "cache", "a cache"):
        model.forward([1], "a cache")


@pytest.mark.parametrize("which", ["first", "", None, 1, ["last"]])
def test_logits_of_an_unknown_kind(model: BitNetModel, which: Any) -> None:
    with refuses(InvalidParameterError, "logits", which):
        model.forward([1], logits=which)


def test_nothing_to_compute(model: BitNetModel) -> None:
    with refuses(InvalidParameterError, "ids"):
        model.forward([])


def test_nothing_to_score(demo: BitNetModel) -> None:
    with refuses(InvalidParameterError, "text"):
        demo.perplexity("")


@pytest.mark.parametrize("stride", [0, *NOT_COUNTS, 512])
def test_stride(demo: BitNetModel, stride: Any) -> None:
    with refuses(InvalidParameterError, "stride", stride):
        demo.perplexity("Once upon a time", stride=stride)


def test_a_context_too_short_to_score_anything() -> None:
    with (
        BitNetModel(n_threads=1, context_length=1) as model,
        refuses(InvalidParameterError, "context_length", 1),
    ):
        model.perplexity("Once upon a time")


@pytest.mark.parametrize("length", [*NOT_COUNTS, 4])
def test_truncating_to_what_is_not_there(model: BitNetModel, length: Any) -> None:
    cache = model.new_cache()
    model.forward([1, 2, 3], cache)
    with refuses(InvalidParameterError, "length", length):
        cache.truncate(length)


def test_text_without_a_tokenizer(model: BitNetModel) -> None:
    for call in (
        lambda: model.generate("Once"),
        lambda: model.generate([1], max_tokens=1),  # ids in, but text out
        lambda: model.tokenize("Once"),
        lambda: model.detokenize([1]),
        lambda: model.perplexity("Once"),
    ):
        with refuses(TokenizerMissingError, "tokenizer.json"):
            call()


def test_an_empty_prompt_with_nothing_to_start_from(tmp_path: Path) -> None:
    config = {"bos_token_id": None, "eos_token_id": None}
    with BitNetModel(write(tmp_path, config), n_threads=1) as model:
        for prompt in ("", []):
            with refuses(EmptyPromptError, "BOS"):
                model.generate(prompt, max_tokens=1, return_result=True)


def test_a_closed_model(tmp_path: Path) -> None:
    model = BitNetModel(write(tmp_path), n_threads=1)
    session = model.session()
    model.close()
    for call in (
        lambda: model.forward([1]),
        lambda: model.generate([1], return_result=True),
        lambda: model.new_cache(),
        lambda: model.session(),
        lambda: session.generate([1], max_tokens=1, return_result=True),
    ):
        with refuses(ClosedError, "closed"):
            call()


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": "much"}, {"top_k": 1.5}])
def test_generation_config_out_of_range_names_the_file(
    values: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path)
    stored = json.dumps({"do_sample": True, **values})
    (tmp_path / "generation_config.json").write_text(stored, encoding="utf-8")
    with BitNetModel(tmp_path, n_threads=1) as model:
        ((name, value),) = values.items()
        with refuses(FormatError, "generation_config.json", name, value):
            SamplingParams.from_checkpoint(model)
