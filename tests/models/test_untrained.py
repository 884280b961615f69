"""Weights that cannot come from training are named in a warning, and others are not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from packed_file import read_parts, write_parts

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.testing import make_checkpoint

DOWN = "model.layers.1.mlp.down_proj.weight"


def with_bytes(path: Path, name: str, byte: int) -> None:
    """Fill a tensor with a byte."""
    weights = path / "model.safetensors"
    header, data = read_parts(weights)
    begin, end = header[name]["data_offsets"]
    data = data[:begin] + bytes([byte]) * (end - begin) + data[end:]
    write_parts(weights, header, data, align=8)


def warnings(path: Path, caplog, **options) -> list[str]:
    caplog.clear()
    with BitNetModel(path, n_threads=1, **options):
        pass
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@pytest.mark.parametrize("form", ["packed", "master"])
def test_made_weights_are_not_suspicious(tmp_path: Path, caplog, form: str) -> None:
    make_checkpoint(tmp_path / "m", "tiny", form=form, tokenizer=False)
    assert not warnings(tmp_path / "m", caplog)
    assert not warnings(None, caplog)  # the built-in model


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.norm.weight",
    "model.layers.0.input_layernorm.weight"])  # fmt: skip
def test_zeros_are_named(tmp_path: Path, caplog, name: str) -> None:
    make_checkpoint(tmp_path / "m", "tiny", tokenizer=False)
    with_bytes(tmp_path / "m", name, 0)
    (warning,) = warnings(tmp_path / "m", caplog)
    assert repr(name) in warning
    assert str(tmp_path) in warning


@pytest.mark.parametrize("byte", [0x00, 0x55, 0xAA], ids=["-1", "0", "+1"])
@pytest.mark.parametrize("weight_format", ["2bit", "1.6bit"])
def test_projections_whose_weights_are_alike_are_named(
    tmp_path: Path, caplog, monkeypatch, byte: int, weight_format: str
) -> None:
    """Also those that come out of the cache."""
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)
    make_checkpoint(tmp_path / "m", "tiny", tokenizer=False)
    with_bytes(tmp_path / "m", DOWN, byte)
    options = {"weight_format": weight_format, "packed_cache": tmp_path / "cache"}
    for _ in range(2):
        found = warnings(tmp_path / "m", caplog, **options)
        assert found
        assert all(repr(DOWN) in each for each in found)


def test_a_few_zeros_are_nothing(tmp_path: Path, caplog) -> None:
    make_checkpoint(tmp_path / "m", "tiny", tokenizer=False)
    weights = tmp_path / "m" / "model.safetensors"
    header, data = read_parts(weights)
    begin, end = header["model.embed_tokens.weight"]["data_offsets"]
    data = data[:begin] + bytes((end - begin) // 2) + data[begin + (end - begin) // 2 :]
    write_parts(weights, header, data, align=8)
    assert not warnings(tmp_path / "m", caplog)
