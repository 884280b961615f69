"""How a model wants its tokens to be drawn goes along into a GGUF file and back."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_metadata import read_gguf_metadata
from reference import write_random_family

from ryzanstein_llm import BitNetModel, SamplingParams, convert
from ryzanstein_llm.conversion.gguf_sampling import sampling_keys
from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.models.gguf_sampling import SAMPLING_KEYS, generation_config_of

ALL = {
    "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
    "repetition_penalty": 1.1,
}  # fmt: skip
SAMPLED = [
    ALL,
    {"do_sample": True},
    {"do_sample": True, "top_k": -1, "temperature": 1},
    {"do_sample": True, "top_k": 1 << 31},
    {"do_sample": False, "repetition_penalty": 1.3},
    {"temperature": 0.7, "top_p": 0.9},
    {},
]


def checkpoint(folder: Path, **generation_config: Any) -> Path:
    path = write_random_family(
        folder, "qwen3", "group256", dtype="float16", hidden_size=256,
        intermediate_size=512, head_dim=64,
    )  # fmt: skip
    (path / "generation_config.json").write_text(json.dumps(generation_config), encoding="utf-8")
    return path


def defaults(path: Path) -> SamplingParams:
    with BitNetModel(path, n_threads=1) as model:
        return SamplingParams.from_checkpoint(model)


@pytest.mark.parametrize("generation_config", SAMPLED, ids=json.dumps)
def test_defaults_are_the_same_in_gguf_and_after_the_way_back(
    generation_config: dict[str, Any], tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "a", **generation_config)
    expected = defaults(source)
    file = convert(source, tmp_path / "b.gguf", tokenizer=False, n_threads=1)
    again = convert(file, tmp_path / "c.gguf", tokenizer=False, n_threads=1)
    back = convert(file, tmp_path / "d", tokenizer=False, n_threads=1)
    for path in (file, again, back):
        found = defaults(path)
        assert found.temperature == expected.temperature
        assert found.repetition_penalty == expected.repetition_penalty
        if expected.temperature > 0:  # the others only matter if tokens are drawn
            top_k = min(expected.top_k, (1 << 31) - 1)  # what int32 holds
            assert found == replace(expected, top_k=top_k), path


def test_keys_and_types_are_those_of_llama_cpp(tmp_path: Path) -> None:
    """gguf-py/gguf/constants.py and gguf_writer.py. The penalty counts all tokens, as here."""
    file = convert(
        checkpoint(tmp_path / "a", **ALL), tmp_path / "b.gguf", tokenizer=False, n_threads=1
    )
    found = {key: value for key, value in read_gguf_metadata(file).items() if "sampling" in key}
    assert found == {
        "general.sampling.temp": float(np.float32(0.6)),
        "general.sampling.top_k": 20,
        "general.sampling.top_p": float(np.float32(0.95)),
        "general.sampling.min_p": float(np.float32(0.05)),
        "general.sampling.penalty_repeat": float(np.float32(1.1)),
        "general.sampling.penalty_last_n": -1,
    }
    raw = file.read_bytes()
    at = raw.index(b"general.sampling.top_k") + len(b"general.sampling.top_k")
    assert raw[at : at + 4] == b"\x05\0\0\0"  # int32


@pytest.mark.parametrize("generation_config", [{}, {"do_sample": False, "temperature": 0.6}])
def test_a_greedy_model_gets_no_keys(generation_config: dict[str, Any], tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", **generation_config)
    file = convert(source, tmp_path / "b.gguf", tokenizer=False, n_threads=1)
    assert not [key for key in read_gguf_metadata(file) if "sampling" in key]


def test_what_gguf_has_no_key_for_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = checkpoint(tmp_path / "a", **ALL, typical_p=0.9)
    convert(source, tmp_path / "b.gguf", tokenizer=False, n_threads=1)
    (record,) = [r for r in caplog.records if "typical_p" in r.getMessage()]
    assert "typical_p 0.9 has no place in a GGUF file" in record.getMessage()
    assert str(source) in record.getMessage()


def replace_float(file: Path, key: str, value: float) -> None:
    raw = bytearray(file.read_bytes())
    at = raw.index(key.encode()) + len(key) + 4
    raw[at : at + 4] = struct.pack("<f", value)
    file.write_bytes(raw)


def test_a_temperature_of_0_is_greedy_and_wrong_values_name_the_metadata(tmp_path: Path) -> None:
    file = convert(
        checkpoint(tmp_path / "a", **ALL), tmp_path / "b.gguf", tokenizer=False, n_threads=1
    )
    replace_float(file, "general.sampling.top_p", 7)
    with pytest.raises(FormatError, match=r"b\.gguf: metadata general\.sampling: top_p .*7\.0"):
        defaults(file)
    replace_float(file, "general.sampling.temp", 0)
    found = defaults(file)
    assert (found.temperature, found.repetition_penalty) == (0, 1.1)
    replace_float(file, "general.sampling.temp", float("nan"))
    with pytest.raises(FormatError, match="temperature"):
        defaults(file)


def test_a_wrong_value_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", do_sample=True, top_p=7)
    with pytest.raises(FormatError, match=r"generation_config\.json: top_p"):
        convert(source, tmp_path / "b.gguf", tokenizer=False, n_threads=1)
    assert not list(tmp_path.glob("b*"))


class Opened:
    """As much of a GGUF checkpoint as its sampling defaults are read from."""

    path = Path("model.gguf")

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata
        self.generation_config = generation_config_of(self)  # type: ignore[arg-type]


STRANGE = [
    "", "0.5", "x" * 1_000_000, [], ["a"], True, np.array([], np.int32), 1e308, float("nan"),
    np.array([0.5], np.float32), np.array([0.5, 1.0], np.float32), np.zeros(10_000, np.int8),
]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLING_KEYS)
@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_whatever_a_key_holds_is_a_short_error_when_it_is_used(name: str, value: Any) -> None:
    """GGUF has texts, flags and arrays under any key."""
    found = Opened({"general.sampling.temp": 0.7, SAMPLING_KEYS[name]: value})
    for use in (SamplingParams.from_checkpoint, sampling_keys):
        with pytest.raises(FormatError) as caught:
            use(found)  # type: ignore[operator]
        said = str(caught.value)
        assert said.startswith(f"model.gguf: metadata general.sampling: {name} must be ")
        assert len(said) < 500
