"""A converted model is the same model: its logits are equal bit for bit, or it is not written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import encodings, write_random_checkpoint, write_random_family
from reference.checkpoint import read_checkpoint
from reference.ternary import unpack_rows

import ryzanstein_llm
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    ConversionError,
    DiskSpaceError,
    FormatError,
    InvalidParameterError,
    UnsupportedModelError,
    WriteError,
)
from ryzanstein_llm.formats.gguf_file import GgufFile

IDS = [3, 77, 5, 9, 40, 41, 2, 8, 8, 19]
SIZES: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
MULTIPLIES = {"quant_method": "bitnet", "linear_class": "autobitlinear"}


def logits(path: Path) -> np.ndarray:
    with BitNetModel(path, n_threads=1, packed_cache=False) as model:
        found = model.forward(IDS)
    assert np.isfinite(found).all()
    return found.view(np.uint32)


def convert(source: Path | None, dst: Path, **options: Any) -> Path:
    return ryzanstein_llm.convert(source, dst, **{"n_threads": 1, **options})


def same_model(first: Path, second: Path) -> None:
    assert (logits(first) == logits(second)).all()


def bitnet(directory: Path, **changes: Any) -> Path:
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return write_random_checkpoint(directory / "bitnet", **{**SIZES, **sizes, **changes})


def family(directory: Path, model_type: str, form: str, **changes: Any) -> Path:
    return write_random_family(
        directory / "source", model_type, form, **{"dtype": "float16", **SIZES, **changes}
    )


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    return tmp_path / "result"


# ---- logits are equal ---------------------------------------------------------------------------

Maker = Callable[[Path], Path]

ONE_SCALE: dict[str, Maker] = {
    "bitnet": bitnet,
    "bitnet that divides": lambda path: bitnet(path, linear_class="bitlinear"),
    "bitnet of masters": lambda path: bitnet(path, form="master"),
    "bitnet with a head of its own": lambda path: bitnet(path, tie_word_embeddings=False),
    "bitnet of float16": lambda path: bitnet(path, dtype="float16"),
    "1bitLLM's bitnet": lambda path: family(path, "bitnet", "master"),
    "llama": lambda path: family(path, "llama", "packed"),
    "llama of masters": lambda path: family(path, "llama", "master"),
    "qwen2": lambda path: family(path, "qwen2", "packed", linear_class="autobitlinear"),
    "qwen3": lambda path: family(path, "qwen3", "tensor", quantization_config=MULTIPLIES),
}


@pytest.mark.parametrize("to", ["safetensors", "i2_s"])
@pytest.mark.parametrize("kind", ONE_SCALE)
def test_models_with_one_scale_a_matrix(kind: str, to: str, tmp_path: Path, dst: Path) -> None:
    source = ONE_SCALE[kind](tmp_path)
    assert convert(source, dst, to=to) == dst
    same_model(source, dst)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("to", ["safetensors", "tq2_0"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_models_with_a_scale_for_256_columns(
    model_type: str, to: str, tied: bool, tmp_path: Path, dst: Path
) -> None:
    source = family(tmp_path, model_type, "group256", tie_word_embeddings=tied)
    convert(source, dst, to=to)
    same_model(source, dst)


@pytest.mark.parametrize("form", ["row", "group64", "group128", "group256", "tensor"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "hunyuan_v1_dense"])
def test_scales_of_rows_and_groups_become_float16(
    model_type: str, form: str, tmp_path: Path, dst: Path
) -> None:
    source = family(tmp_path, model_type, form)
    convert(source, dst)
    same_model(source, dst)
    config = json.loads((dst / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config


def test_gemma_keeps_its_norms(tmp_path: Path, dst: Path) -> None:
    source = family(tmp_path, "gemma3_text", "group128", dtype="bfloat16", tie_word_embeddings=True)
    convert(source, dst)
    same_model(source, dst)


def test_ternary_embeddings_stay_ternary(tmp_path: Path) -> None:
    source = family(tmp_path, "qwen3", "group256", ternary_embedding=True)
    for to in ("tq2_0", "safetensors"):
        convert(source, tmp_path / to, to=to)
        same_model(source, tmp_path / to)
    types = {info.dtype for info in GgufFile(tmp_path / "tq2_0").infos.values()}
    assert types == {"TQ2_0", "F32"}


def test_bitnet_as_tq2_0(tmp_path: Path, dst: Path) -> None:
    source = bitnet(tmp_path)  # its scales are bfloat16, which float16 holds at this size
    convert(source, dst, to="tq2_0")
    same_model(source, dst)


def test_there_and_back_and_there_again(tmp_path: Path) -> None:
    """From each format to each other one."""
    source = bitnet(tmp_path)
    ways = ["i2_s", "tq2_0", "safetensors", "tq2_0", "i2_s", "safetensors", "safetensors", "i2_s"]
    previous = source
    for step, to in enumerate(ways):
        convert(previous, tmp_path / str(step), to=to)
        previous = tmp_path / str(step)
    same_model(source, previous)


def test_a_permuted_gguf_file_becomes_a_hugging_face_one(tmp_path: Path) -> None:
    source = family(tmp_path, "llama", "group256")
    convert(source, tmp_path / "a.gguf")
    convert(tmp_path / "a.gguf", tmp_path / "b")
    same_model(source, tmp_path / "b")
    expected, found = read_checkpoint(source)[1], read_checkpoint(tmp_path / "b")[1]
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert np.array_equal(found[name].astype(np.float32), tensor.astype(np.float32)), name


def test_the_built_in_model(tmp_path: Path) -> None:
    convert(None, tmp_path / "demo")
    with BitNetModel(n_threads=1) as demo, BitNetModel(tmp_path / "demo", n_threads=1) as other:
        text = demo.generate("Once upon a time", max_tokens=12)
        assert other.generate("Once upon a time", max_tokens=12) == text


# ---- bytes --------------------------------------------------------------------------------------


def test_packed_weights_are_those_that_transformers_reads(tmp_path: Path, dst: Path) -> None:
    source = bitnet(tmp_path)
    convert(source, dst)
    (config, tensors), (_, expected) = read_checkpoint(dst), read_checkpoint(source)
    assert config["quantization_config"] == {**MULTIPLIES, "quantization_mode": "offline"}
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        if tensor.dtype == np.uint8:  # padding rows may differ
            rows = {"k_proj": 128, "v_proj": 128}.get(name.split(".")[-2], 256)
            assert np.array_equal(unpack_rows(tensors[name], rows), unpack_rows(tensor, rows))
        else:
            assert np.array_equal(tensors[name], tensor), name


@pytest.mark.parametrize("to", ["tq2_0", "i2_s"])
def test_blocks_are_those_of_the_definition(to: str, tmp_path: Path, dst: Path) -> None:
    source = bitnet(tmp_path)
    convert(source, dst, to=to)
    stored = read_checkpoint(source)[1]
    file = GgufFile(dst)
    name = "model.layers.1.mlp.down_proj.weight"
    t = unpack_rows(stored[name], 256)
    scale = float(stored[f"{name}_scale"][0])
    if to == "i2_s":
        expected = encodings.i2_s(t, np.array([[scale]]))
    else:
        expected = encodings.tq2_0(t, np.full((256, 2), scale))
    assert np.array_equal(file.array("blk.1.ffn_down.weight"), expected)
    assert file.infos["blk.1.ffn_down.weight"].shape == (256, 512)


def test_rows_of_q_and_k_are_in_the_order_of_llama_cpp(tmp_path: Path, dst: Path) -> None:
    source = family(tmp_path, "llama", "packed", linear_class="autobitlinear")
    convert(source, dst, to="i2_s")
    stored, file = read_checkpoint(source)[1], GgufFile(dst)
    for part, rows in (("q", 256), ("k", 128)):
        name = f"model.layers.0.self_attn.{part}_proj.weight"
        t = encodings.interleaved(unpack_rows(stored[name], rows), 64)
        expected = encodings.i2_s(t, np.array([[float(stored[f"{name}_scale"][0])]]))
        assert np.array_equal(file.array(f"blk.0.attn_{part}.weight"), expected)


# ---- what a format cannot hold ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "to", "why"),
    [
        (lambda p: family(p, "qwen3", "group64"), "tq2_0", "groups of 64 columns"),
        (lambda p: family(p, "qwen3", "group128"), "tq2_0", "scales differ within 256 columns"),
        (lambda p: family(p, "qwen3", "group128"), "i2_s", "scales for groups"),
        (lambda p: family(p, "llama", "row"), "i2_s", "scales for groups"),
        (
            lambda p: family(p, "llama", "packed"),
            "tq2_0",
            "scale for each token",
        ),
        (lambda p: bitnet(p, linear_class="bitlinear"), "tq2_0", "no float16 number"),
        (lambda p: bitnet(p, intermediate_size=320), "tq2_0", "320 columns"),
        (lambda p: bitnet(p, intermediate_size=320), "i2_s", "320 columns"),
        (lambda p: family(p, "hunyuan_v1_dense", "group256"), "tq2_0", "'hunyuan_v1_dense'"),
        (
            lambda p: family(
                p, "llama", "group256", rope_scaling={
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                },
            ),
            "tq2_0",
            "rope_type 'llama3'",
        ),
        (
            lambda p: family(p, "llama", "group256", rope_theta=10000.12345678),
            "tq2_0",
            r"rope would be .*10000\.12345678",
        ),
    ],
)  # fmt: skip
def test_is_refused_with_a_reason_and_leaves_nothing(
    make: Maker, to: str, why: str, tmp_path: Path, dst: Path
) -> None:
    source = make(tmp_path)
    with pytest.raises(ConversionError, match=why):
        convert(source, dst, to=to)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_models_that_cannot_run_cannot_be_converted_either(tmp_path: Path, dst: Path) -> None:
    source = family(tmp_path, "llama", "master")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    del config["quantization_config"]
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="not ternary"):
        convert(source, dst)
    (source / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        convert(source, dst)


# ---- files --------------------------------------------------------------------------------------


def test_what_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"mine")
    with pytest.raises(InvalidParameterError, match=r"a\.gguf exists already") as info:
        convert(None, tmp_path / "a.gguf")
    assert info.value.parameter == "dst"
    with pytest.raises(InvalidParameterError, match="no folder"):
        convert(None, tmp_path / "nowhere" / "a.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == b"mine"


def test_what_is_no_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for dst in (3, None, b"a.gguf"):
        with pytest.raises(InvalidParameterError, match="dst must be a path, not"):
            convert(None, dst)  # type: ignore[arg-type]
    for name in ("a\0b", "\ud800", "x" * 256):
        with pytest.raises(WriteError):  # before it looks for the model
            convert(tmp_path / "no model", Path(name))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_only_an_ending_says_the_format_too(tmp_path: Path) -> None:
    assert convert(None, tmp_path / ".gguf").is_file()


@pytest.mark.parametrize(
    ("name", "to", "problem"),
    [
        (
            "q.gguf",
            "safetensors",
            r"q\.gguf ends in \.gguf, but 'safetensors' is a folder; call it",
        ),
        ("Q.GGUF", "safetensors", r"or choose 'tq2_0' or 'i2_s' for a GGUF file"),
        ("d.safetensors", None, r"d\.safetensors ends in \.safetensors, but .* is a folder; call"),
        ("d.safetensors", "safetensors", "'safetensors' is a folder; call it .*d$"),
        ("d.safetensors", "i2_s", r"'i2_s' is a GGUF file; call it .*d\.gguf$"),
    ],
)
def test_a_name_that_says_another_format_is_refused(
    tmp_path: Path, name: str, to: str | None, problem: str
) -> None:
    with pytest.raises(InvalidParameterError, match=problem) as caught:
        convert(tmp_path / "no model", tmp_path / name, to=to)
    assert caught.value.parameter == "dst"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", [None, "i2_s", "tq2_0"])
@pytest.mark.parametrize("name", ["a.gguf/", "a.GGUF/", "a/"])
def test_a_slash_at_the_end_says_that_it_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "a/" and to is None:
        assert convert(None, name).is_dir()  # type: ignore[arg-type]
        return
    with pytest.raises(InvalidParameterError, match=r"/ is a folder, .*; call it a\.(gguf|GGUF)$"):
        convert(None, name, to=to)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="'q4_0'"):
        convert(None, tmp_path / "a", to="q4_0")


def test_room_is_looked_for_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskSpaceError, match=r"1\.0 kB are free"):
        convert(None, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["safetensors", "i2_s"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_an_interrupt_leaves_nothing(
    to: str, error: type[BaseException] | BaseException, tmp_path: Path, dst: Path
) -> None:
    source = bitnet(tmp_path)

    def stop(done: int, total: int, what: str) -> None:
        assert not dst.exists()
        if done == 5:
            raise error

    with pytest.raises((KeyboardInterrupt, OSError)):
        convert(source, dst, to=to, progress=stop)
    assert os.listdir(tmp_path) == ["bitnet"]


def test_progress_counts_tensors(tmp_path: Path, dst: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    convert(bitnet(tmp_path), dst, to="i2_s", progress=lambda *call: calls.append(call))
    total = 2 + 2 * 11
    assert calls == [(done, total, "converting weights") for done in range(1, total + 1)]


def test_the_name_tells_the_format(tmp_path: Path) -> None:
    one_scale, groups = bitnet(tmp_path), family(tmp_path, "qwen3", "group256")
    convert(one_scale, tmp_path / "a.gguf")
    convert(groups, tmp_path / "b.GGUF")
    convert(groups, tmp_path / "c")
    assert GgufFile(tmp_path / "a.gguf").infos["blk.0.attn_q.weight"].dtype == "I2_S"
    assert GgufFile(tmp_path / "b.GGUF").infos["blk.0.attn_q.weight"].dtype == "TQ2_0"
    assert (tmp_path / "c" / "model.safetensors").is_file()
