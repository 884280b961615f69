"""RoPE that is scaled to long contexts: frequencies, factors, and what config.json may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import family_config, rope_frequencies, write_checkpoint, yarn_range

from ryzanstein_llm.errors import FormatError, UnsupportedModelError
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.models.config_reader import ConfigReader
from ryzanstein_llm.models.rope import Rope, RotaryTable, read_rope

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16384}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "yarn": YARN,
    "yarn, other turns": {**YARN, "beta_fast": 16, "beta_slow": 2},
    "yarn of a short context": {**YARN, "original_max_position_embeddings": 256},
    "llama3": LLAMA3,
    "alpha": {"type": "dynamic", "alpha": 1000.0},
}


def read(directory: Path, **config: Any) -> Rope:
    whole = family_config("llama", rope_theta=None, **config)
    write_checkpoint(directory, whole, {"x": np.zeros(1, np.float32)})
    with open_checkpoint(directory) as checkpoint:
        return read_rope(ConfigReader(checkpoint), 10000.0, whole["max_position_embeddings"])


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 1e6, 5e6, 1000042.0])
@pytest.mark.parametrize("head_dim", [2, 32, 64, 96, 100, 128, 256])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_are_those_of_the_definition(
    name: str, head_dim: int, theta: float, tmp_path: Path
) -> None:
    if name == "alpha" and head_dim == 2:
        pytest.skip("its exponent is a division by zero")
    scaling = {**SCALINGS[name], "rope_theta": theta}
    rope = read(tmp_path, rope_parameters=scaling)
    found = rope.inverse_frequencies(head_dim)
    wanted, factor = rope_frequencies({"model_type": "llama", "rope_parameters": scaling}, head_dim)
    assert found.dtype == np.float32
    # seven single operations in float32, each within half a unit in the last place
    np.testing.assert_allclose(found, wanted, rtol=4e-7)
    assert rope.attention_factor == pytest.approx(factor, rel=1e-12)


def test_yarn_of_ternary_bonsai() -> None:
    """Heads of 128, theta a million, 16,384 positions stretched to 65,536."""
    rope = Rope(1e6, "yarn", 4.0, 16384)
    assert rope.yarn_range(128) == (20, 37) == yarn_range(YARN, 128, 1e6)
    ramp = rope.yarn_ramp(128)
    assert (ramp[:21] == 0).all()
    assert (ramp[37:] == 1).all()
    assert ((ramp[21:37] > 0) & (ramp[21:37] < 1)).all()


def test_the_attention_factor_follows_from_the_factor_unless_the_config_has_one(
    tmp_path: Path,
) -> None:
    assert read(tmp_path / "a", rope_scaling=YARN).attention_factor == pytest.approx(
        1.13863, abs=5e-6
    )
    given = {**YARN, "attention_factor": 0.75}
    assert read(tmp_path / "b", rope_scaling=given).attention_factor == 0.75
    scales = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
    assert read(tmp_path / "c", rope_scaling=scales).attention_factor == 1.0


def test_tables_hold_the_factor_and_grow() -> None:
    rope = Rope(1e6, "yarn", 4.0, 1024, attention_factor=1.25)
    table, plain = (
        RotaryTable(rope, 64, 4096),
        RotaryTable(replace(rope, attention_factor=1), 64, 4096),
    )
    (cosines, sines), unscaled = table.tables(3000), plain.tables(3000)
    assert (cosines == np.float32(1.25) * unscaled[0]).all()
    assert (sines == np.float32(1.25) * unscaled[1]).all()
    assert len(cosines) == 3000
    assert (RotaryTable(rope, 64, 4096).tables(1)[0][:1] == cosines[:1]).all()


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_both_spellings_mean_the_same(spelling: str, kind: str, tmp_path: Path) -> None:
    scaling = {kind: "linear", "factor": 2.0}
    found = read(tmp_path, **{spelling: scaling}, max_position_embeddings=4096)
    assert (found.kind, found.factor, found.theta) == ("linear", 2.0, 10000.0)


def test_the_original_context_may_stand_outside_or_be_the_context(tmp_path: Path) -> None:
    scaling = {"type": "yarn", "factor": 2.0}
    outside = read(tmp_path / "a", rope_scaling=scaling, original_max_position_embeddings=128)
    assert outside.original_length == 128
    assert read(tmp_path / "b", rope_scaling=scaling).original_length == 512


def test_two_spellings_that_differ_are_refused(tmp_path: Path) -> None:
    both = {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"factor": 4.0}}
    with pytest.raises(FormatError, match="factor"):
        read(tmp_path / "a", **both)
    both["rope_parameters"] = {"rope_theta": 500.0}
    found = read(tmp_path / "b", **both)
    assert (found.kind, found.factor, found.theta) == ("linear", 2.0, 500.0)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"type": "dynamic", "factor": 2.0}, "dynamic"),
        ({"type": ["yarn"], "factor": 2.0}, "yarn"),
        ({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, "longrope"),
        ({"type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"type": "linear", "factor": 2.0, "mrope_section": [1, 2]}, "mrope_section"),
    ],
)
def test_kinds_that_are_not_supported_are_named(
    scaling: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        read(tmp_path, rope_scaling=scaling)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"type": "linear"}, "factor"),
        ({"type": "linear", "factor": 0.5}, "factor"),
        ({"type": "linear", "factor": "2"}, "factor"),
        ({"type": "linear", "factr": 2.0}, "did you mean 'factor'"),
        ({"factor": 4.0}, "rope_type"),
        ({**YARN, "beta_fast": 1, "beta_slow": 2}, "beta_fast"),
        ({**YARN, "attention_factor": -1.0}, "attention_factor"),
        ({**YARN, "original_max_position_embeddings": 0}, "original_max_position_embeddings"),
        ({**YARN, "truncate": "no"}, "truncate"),
        ({**LLAMA3, "high_freq_factor": 1.0}, "high_freq_factor"),
        ({**LLAMA3, "low_freq_factor": None}, "low_freq_factor"),
        ({"rope_theta": 0.5}, "rope_theta"),
        ({**YARN, "rope_theta": 1.0}, "rope_theta"),
    ],
)
def test_values_that_make_no_sense_are_named(
    scaling: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=named):
        read(tmp_path, rope_scaling=scaling)
