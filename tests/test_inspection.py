"""`info PATH` and `convert` on the command line: what a checkpoint is, without loading it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from reference import write_random_checkpoint, write_random_family

import ryzanstein_llm
from ryzanstein_llm import BitNetModel, estimate_memory
from ryzanstein_llm.cli import main
from ryzanstein_llm.inspection import inspect_checkpoint
from ryzanstein_llm.text_table import format_bytes


@pytest.mark.parametrize(
    ("linear_class", "rule"),
    [("autobitlinear", "multiplied by weight_scale"), ("bitlinear", "divided by weight_scale")],
)
def test_says_whether_weights_are_multiplied_or_divided(
    linear_class: str, rule: str, tmp_path: Path
) -> None:
    write_random_checkpoint(tmp_path, linear_class=linear_class)  # type: ignore[arg-type]
    found = inspect_checkpoint(tmp_path)
    assert found["weights"] == f"packed, {rule}"
    assert found["activations"] == "token"
    assert found["tensors"] == {"BF16": 24, "U8": 14}


@pytest.mark.parametrize(
    ("form", "weights", "activations"),
    [
        ("master", "BF16, masters made ternary by absmean", "token"),
        ("group64", "BF16, ternary as stored", "group64"),
        ("row", "BF16, ternary as stored", "group128"),
    ],
)
def test_tells_masters_from_ternary_floats(
    form: str, weights: str, activations: str, tmp_path: Path
) -> None:
    write_random_family(tmp_path, "llama", form)
    found = inspect_checkpoint(tmp_path)
    assert (found["weights"], found["activations"]) == (weights, activations)
    assert (found["tied_head"], found["has_tokenizer"]) == (False, False)


def test_agrees_with_the_open_model() -> None:
    found = inspect_checkpoint()
    with BitNetModel(n_threads=1) as model:
        facts = model.info()
    for key in ("family", "parameters", "context_length", "has_tokenizer"):
        assert found[key] == facts[key], key
    assert found["memory"] == estimate_memory()


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("context_length", [1, 256, 257, 512])
def test_the_cache_has_one_size_before_and_after_loading(
    context_length: int, kv_dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A block is at least a page: 256 tokens of the demo model are less than a huge page."""
    estimate = estimate_memory(context_length=context_length, kv_dtype=kv_dtype)
    with BitNetModel(n_threads=1, context_length=context_length, kv_dtype=kv_dtype) as model:
        facts = model.info()
    assert facts["kv_cache_bytes"] == estimate.kv_cache
    blocks = 1 + (context_length > 256)
    assert facts["kv_cache_bytes"] >= blocks * 256 * facts["kv_bytes_per_token"]
    shown = []
    for path in ([], [":demo:"]):
        assert main(["info", *path, "-c", str(context_length), "--kv-dtype", kv_dtype]) == 0
        shown += re.findall(r"(\S+ .B) when full", capsys.readouterr().out)
    assert shown == 2 * [format_bytes(estimate.kv_cache)]


def test_a_gguf_file_is_described_by_its_types(tmp_path: Path) -> None:
    source = write_random_family(
        tmp_path / "a", "qwen3", "group256", dtype="float16", hidden_size=256,
        intermediate_size=512, head_dim=64,
    )  # fmt: skip
    ryzanstein_llm.convert(source, tmp_path / "b.gguf", n_threads=1)
    found = inspect_checkpoint(tmp_path / "b.gguf")
    assert found["weights"] == "TQ2_0, ternary as stored"
    assert found["tensors"] == {"TQ2_0": 14, "F32": 9, "F16": 2}


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_checkpoint(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for expected in (
        str(tmp_path),
        "BF16 x 24, U8 x 14",
        "packed, multiplied by weight_scale",
        "int8 with a scale for each token",
        "512 tokens",
        "this machine",
    ):
        assert expected in text
    assert main(["info", str(tmp_path), "--json", "-c", "256"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["memory"]["kv_cache"] == estimate_memory(tmp_path, context_length=256).kv_cache
    assert found["family"] == "bitnet"


def test_options_of_loading_are_refused_with_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "x", "--threads", "2"]) == 2
    assert "--threads is for a model that is loaded" in capsys.readouterr().err
    assert main(["info", "/nowhere"]) == 2
    assert "/nowhere" in capsys.readouterr().err


def test_convert_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_random_checkpoint(
        tmp_path / "a", hidden_size=256, intermediate_size=512, num_attention_heads=4
    )
    target = tmp_path / "b.gguf"
    arguments = ["convert", str(source), str(target), "--to", "i2_s", "-t", "1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{target}\n"
    with BitNetModel(source, n_threads=1) as one, BitNetModel(target, n_threads=1) as other:
        assert np.array_equal(one.forward([1, 2, 3]), other.forward([1, 2, 3]))
    assert main(arguments) == 2
    assert f"{target} exists already" in capsys.readouterr().err
    assert main(["convert", str(source), str(target)]) == 2
    assert f"error: DST {target} exists already" in capsys.readouterr().err
    assert main(["convert", str(source)]) == 2
    assert "error: DST is missing" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "c"), "--to", "q4_0"]) == 2
    assert "--to must be one of" in capsys.readouterr().err
