"""What a generation_config.json means for sampling: values that nobody uses harm nobody, and the
others are refused with the name of the file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from spoilt import refuses, write_spoilt

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.errors import FormatError, InvalidParameterError

FILE = "there/generation_config.json"
OFF = {"top_k": -1, "top_p": 0.0, "min_p": 2, "typical_p": "x", "temperature": -3}


def read(config: dict[str, Any], **overrides: Any) -> SamplingParams:
    return SamplingParams.from_generation_config(config, FILE, **overrides)


def test_nothing_means_greedy() -> None:
    assert read({}) == read({"do_sample": False}) == read({"do_sample": None}) == SamplingParams()


def test_sampling_without_a_temperature_leaves_the_logits_as_they_are() -> None:
    assert read({"do_sample": True}) == SamplingParams(temperature=1.0)


def test_values_are_taken_and_overrides_replace_them() -> None:
    config = {"do_sample": True, "temperature": 0.5, "top_k": 40, "top_p": None, "num_beams": 4}
    assert read(config) == SamplingParams(temperature=0.5, top_k=40)
    assert read(config, top_k=3, seed=1, temperature=None) == SamplingParams(
        temperature=0.5, top_k=3, seed=1
    )


@pytest.mark.parametrize("name", OFF)
@pytest.mark.parametrize("config", [{}, {"do_sample": False}])
def test_without_sampling_values_out_of_range_are_logged_and_left_out(
    name: str, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ryzanstein_llm"):
        assert read({**config, name: OFF[name]}) == SamplingParams()
    if name != "temperature":  # which is not looked at
        (record,) = caplog.records
        assert FILE in record.getMessage()
        assert name in record.getMessage()


def test_greedy_as_an_override_leaves_them_out_too() -> None:
    assert read({"do_sample": True, **OFF}, temperature=0) == SamplingParams()


def test_what_an_override_replaces_is_not_looked_at() -> None:
    config = {"do_sample": True, **OFF, "repetition_penalty": -1}
    given = {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.5, "temperature": 0.7}
    assert read(config, **given, repetition_penalty=1.5) == SamplingParams(
        **given, repetition_penalty=1.5
    )


def test_a_top_k_of_minus_one_is_no_filter() -> None:
    assert read({"do_sample": True, "top_k": -1}) == SamplingParams(temperature=1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("top_p", "much"), ("top_k", -2), ("top_k", 1.5), ("min_p", 2)],
)
def test_a_value_out_of_range_that_is_used_names_the_file(name: str, value: Any) -> None:
    with refuses(FormatError, FILE, name, value):
        read({"do_sample": True, name: value})


def test_a_repetition_penalty_is_used_without_sampling_too() -> None:
    assert read({"repetition_penalty": 1.1}) == SamplingParams(repetition_penalty=1.1)
    with refuses(FormatError, FILE, "repetition_penalty", -1):
        read({"repetition_penalty": -1})


@pytest.mark.parametrize("value", ["false", {}, 1, []])
def test_do_sample_is_true_or_false(value: Any) -> None:
    with refuses(FormatError, FILE, "do_sample", value):
        read({"do_sample": value})


def test_an_override_is_at_fault_before_the_file_is() -> None:
    config = {"do_sample": True, "top_p": 7}
    with refuses(InvalidParameterError, "min_p", 3):
        read(config, min_p=3)
    with refuses(InvalidParameterError, "temprature is no sampling parameter"):
        read(config, temprature=1)


def checkpoint(directory: Path, text: str) -> Path:
    write_spoilt(directory, {"bos_token_id": 2})
    (directory / "generation_config.json").write_text(text)
    return directory


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_counts_as_none_and_is_logged(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "ryzanstein_llm"),
        BitNetModel(checkpoint(tmp_path, text), n_threads=1) as model,
    ):
        assert SamplingParams.from_checkpoint(model) == SamplingParams()
    assert str(tmp_path / "generation_config.json") in caplog.text


@pytest.mark.parametrize("number", [-1, 50, "x"])
def test_a_padding_id_that_nobody_needs_may_be_anything(number: Any, tmp_path: Path) -> None:
    text = json.dumps({"pad_token_id": number})
    with BitNetModel(checkpoint(tmp_path, text), n_threads=1) as model:
        assert model.start_id == 2


def test_a_padding_id_that_an_empty_prompt_would_start_from_is_checked(tmp_path: Path) -> None:
    write_spoilt(tmp_path, {"bos_token_id": None, "eos_token_id": None})
    file = tmp_path / "generation_config.json"
    for number in (50, "x"):
        file.write_text(json.dumps({"pad_token_id": number}))
        with refuses(FormatError, "generation_config.json: pad_token_id", number):
            BitNetModel(tmp_path, n_threads=1)
    for number, start in ((-1, None), (7, 7)):
        file.write_text(json.dumps({"pad_token_id": number}))
        with BitNetModel(tmp_path, n_threads=1) as model:
            assert model.start_id == start


@pytest.mark.parametrize("key", ["temperatura", "do_sampel", "Repetition_penalty", "typicalp"])
def test_a_misspelt_key_is_refused_where_it_would_be_used(key: str) -> None:
    with pytest.raises(FormatError, match=f"{FILE}: {key}: there is no such key; did you mean"):
        read({key: 0.6} if key == "do_sampel" else {"do_sample": True, key: 0.6})


def test_keys_that_other_programs_know_are_not_taken_for_typing_errors() -> None:
    others = ["top_h", "encoder_repetition_penalty", "length_penalty", "diversity_penalty"]
    assert read({"do_sample": True} | dict.fromkeys(others, 1)) == SamplingParams(temperature=1.0)


def test_a_misspelt_key_that_nobody_would_use_is_left_alone() -> None:
    assert read({"temperatura": 0.6}) == SamplingParams()
    assert read({"do_sample": True, "temperatura": 0.6}, temperature=0.5).temperature == 0.5
