"""`ryzanstein_llm.testing`: random checkpoints, and the command line that writes them."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.formats import Checkpoint, open_checkpoint
from ryzanstein_llm.testing import (
    PRESETS,
    from_bf16_bits,
    make_checkpoint,
    preset_config,
    tensor_shapes,
    unpack_hf,
)

BITNET_2B = "bitnet-b1.58-2B-4T"


def floats(checkpoint: Checkpoint, name: str) -> Any:
    tensor = checkpoint.tensor(name)
    array = from_bf16_bits(tensor.array) if tensor.dtype == "BF16" else tensor.array
    return array.astype(np.float64)


@pytest.mark.parametrize("form", ["packed", "master"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_checkpoint_opens_with_the_safetensors_library(
    tmp_path: Path, form: Any, dtype: Any
) -> None:
    path = make_checkpoint(tmp_path / "new" / "model", "tiny", form=form, dtype=dtype)
    shapes = tensor_shapes(preset_config("tiny"), form)
    with safe_open(path / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == set(shapes)
        assert file.metadata()["format"] == "pt"
        for name, shape in shapes.items():
            assert tuple(file.get_slice(name).get_shape()) == shape
            packed = form == "packed" and name.endswith("_proj.weight")
            assert file.get_slice(name).get_dtype() == ("U8" if packed else dtype)
    with open_checkpoint(path) as checkpoint:
        for name in shapes:
            assert not checkpoint.tensor(name).array.flags.owndata, f"{name} is misaligned"
        assert checkpoint.config["quantization_config"] == {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": {"packed": "offline", "master": "online"}[form],
        }


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    def files(name: str, **options: Any) -> dict[str, bytes]:
        path = make_checkpoint(tmp_path / name, "tiny", **options)
        return {file.name: file.read_bytes() for file in path.iterdir()}

    assert files("a") == files("b", seed=0)
    assert files("c", seed=1)["model.safetensors"] != files("d", seed=2)["model.safetensors"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 38])
def test_shards_hold_the_same_tensors(tmp_path: Path, count: int) -> None:
    whole = open_checkpoint(make_checkpoint(tmp_path / "whole", "tiny"))
    path = make_checkpoint(tmp_path / "shards", "tiny", shards=count)
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.files) == count
        assert sorted(checkpoint.names) == sorted(whole.names)
        for name in whole.names:
            expected = whole.tensor(name).array
            assert np.array_equal(checkpoint.tensor(name).array, expected)


def test_weight_scale_follows_the_linear_class(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight_scale"
    scales = {}
    for linear_class in ("autobitlinear", "bitlinear", None):
        path = make_checkpoint(
            tmp_path / str(linear_class), "tiny", linear_class=linear_class, dtype="F32"
        )
        checkpoint = open_checkpoint(path)
        assert checkpoint.config["quantization_config"].get("linear_class") == linear_class
        scales[linear_class] = floats(checkpoint, name).item()
    assert scales["bitlinear"] == scales[None] == pytest.approx(1 / scales["autobitlinear"])


@pytest.mark.parametrize("form", ["packed", "master"])
def test_weights_are_sane(tmp_path: Path, form: Any) -> None:
    """Norms near 1; a projection of a unit vector has rms near 1, or less into the residual."""
    config = preset_config("tiny") | {"hidden_size": 256, "intermediate_size": 640}
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, config, form=form))
    embedding = floats(checkpoint, "model.embed_tokens.weight")
    assert embedding.std() == pytest.approx(3 / 16, rel=0.02)
    for name in checkpoint.names:
        if name.endswith("norm.weight"):
            assert floats(checkpoint, name).mean() == pytest.approx(1, abs=0.05)
        if name.endswith("_proj.weight"):
            ternary, scale = ternary_weights(checkpoint, name)
            shares = [(ternary == value).mean() for value in (-1, 0, 1)]
            assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
            rms = scale * math.sqrt(ternary.shape[1] * (ternary != 0).mean())
            expected = 0.5 if "o_proj" in name or "down_proj" in name else 1.0
            assert expected * 0.75 < rms < expected * 1.3


def ternary_weights(checkpoint: Checkpoint, name: str) -> tuple[Any, float]:
    if checkpoint.info(name).dtype == "U8":
        packed = checkpoint.tensor(name).array
        assert all(int((packed >> shift & 3).max()) <= 2 for shift in (0, 2, 4, 6))
        scale = floats(checkpoint, name.replace("weight", "weight_scale")).item()
        return unpack_hf(packed, 4 * packed.shape[0]).astype(np.int8) - 1, scale
    weights = floats(checkpoint, name)
    scale = float(np.abs(weights).mean())
    return np.clip(np.rint(weights / scale), -1, 1), scale


@pytest.mark.parametrize("form", ["packed", "master"])
def test_sparse_gates_lean_against_the_common_direction(tmp_path: Path, form: Any) -> None:
    """The first layer's gates for vectors as they arrive there: an embedding and one block."""
    config = preset_config("tiny") | {"hidden_size": 512, "intermediate_size": 2048}
    path = make_checkpoint(tmp_path, config, form=form, sparse_gates=0.2)
    checkpoint = open_checkpoint(path)
    rng = np.random.default_rng(0)
    output, scale = ternary_weights(checkpoint, "model.layers.0.self_attn.o_proj.weight")
    arriving = floats(checkpoint, "model.embed_tokens.weight")
    arriving = arriving + rng.standard_normal((512, output.shape[1])) @ output.T * scale
    gates, _ = ternary_weights(checkpoint, "model.layers.0.mlp.gate_proj.weight")
    assert (arriving @ gates.T > 0).mean() == pytest.approx(0.2, abs=0.04)
    ups, _ = ternary_weights(checkpoint, "model.layers.0.mlp.up_proj.weight")
    assert (arriving @ ups.T > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = make_checkpoint(
        tmp_path, "tiny", progress=lambda done, total: calls.append((done, total))
    )
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {calls[-1][0]}
    assert calls[-1][0] < (path / "model.safetensors").stat().st_size


def test_a_directory_with_weights_is_left_alone(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "tiny", tokenizer=False)
    assert not (tmp_path / "tokenizer.json").exists()
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(InvalidParameterError, match="already holds weights"):
        make_checkpoint(tmp_path, "tiny", seed=1)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_write_leaves_no_weights(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_checkpoint(tmp_path, "tiny", progress=interrupt)
    assert not list(tmp_path.glob("*.safetensors*"))


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"seed": -1}, -1),
        ({"seed": 1.5}, 1.5),
        ({"form": "gguf"}, "gguf"),
        ({"linear_class": "linear"}, "linear"),
        ({"dtype": "F64"}, "F64"),
        ({"shards": 0}, 0),
        ({"shards": 39}, 39),
        ({"shards": True}, True),
        ({"sparse_gates": 1.0}, 1.0),
        ({"sparse_gates": "z"}, "z"),
        ({"tokenizer": 2}, 2),
        ({"progress": 5}, 5),
    ],
)
def test_bad_parameters_are_named(tmp_path: Path, options: Any, value: object) -> None:
    with pytest.raises(InvalidParameterError, match=f"not {value!r}") as caught:
        make_checkpoint(tmp_path / "never", "tiny", **options)
    assert caught.value.parameter == next(iter(options))
    assert not (tmp_path / "never").exists()


def test_a_preset_is_known_by_name(tmp_path: Path) -> None:
    for name in ("huge", ["tiny"]):
        with pytest.raises(InvalidParameterError, match="must be") as caught:
            make_checkpoint(tmp_path, name)  # type: ignore[arg-type]
        assert repr(name) in str(caught.value)
    assert [*tmp_path.iterdir()] == []


def test_a_directory_with_weights_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "tiny")
    with pytest.raises(InvalidParameterError, match="already holds weights") as caught:
        make_checkpoint(tmp_path, "tiny")
    assert caught.value.parameter == "directory"
    assert str(tmp_path) in str(caught.value)


def run(arguments: list[str], *how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(how or ("-m", "ryzanstein_llm.testing")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_command_line(tmp_path: Path) -> None:
    done = run(["make-checkpoint", "--preset", "tiny", str(tmp_path / "m"), "--seed", "3"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'm'}\n", "")
    same = make_checkpoint(tmp_path / "same", "tiny", seed=3)
    name = "model.safetensors"
    assert (tmp_path / "m" / name).read_bytes() == (same / name).read_bytes()
    again = run(["make-checkpoint", "--preset", "tiny", str(tmp_path / "m")])
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "already holds weights" in again.stderr


def test_help_explains_every_option_and_has_a_line_for_each_preset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(["make-checkpoint", "--help"]).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert {f"  {name}" for name in PRESETS} <= set(shown.splitlines())
    _, listed = shown.split("options:\n")
    options = re.findall(r"^  (?:-h, )?--(\S+)(?: [A-Z]+)?\s+\w", listed, re.M)
    parameters = inspect.signature(make_checkpoint).parameters
    assert {name.replace("-", "_") for name in options} == (
        {"help", "preset", "no_tokenizer"} | parameters.keys()
    ) - {"directory", "preset_or_config", "tokenizer", "progress"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_2b_checkpoint_is_written_whole_in_little_memory(tmp_path: Path) -> None:
    # Asked from inside: getrusage() of a child counts its parent's memory before exec as well.
    program = (
        "import sys; from ryzanstein_llm.testing.__main__ import main; status = main(sys.argv[1:]);"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')));"
        "sys.exit(status)"
    )
    arguments = ["make-checkpoint", "--preset", BITNET_2B, str(tmp_path / "m")]
    done = run(arguments, "-c", program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("VmHWM:")[1].split()[0]) < 2_500_000  # KiB
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert len(checkpoint.names) == 542
        shapes = {name: checkpoint.info(name).shape for name in checkpoint.names}
        assert shapes == tensor_shapes(preset_config(BITNET_2B), "packed")
        assert checkpoint.tensor("model.embed_tokens.weight").array.shape == (128256, 2560)
        packed = checkpoint.tensor("model.layers.29.mlp.down_proj.weight").array
        assert int((packed & packed >> 1 & 0x55).max()) == 0  # no code 3


class TestPeaked:
    def test_common_tokens_are_likelier_whatever_comes_before(self, tmp_path: Path) -> None:
        """By the logarithm of how many times as often they come: for 512 tokens of which 16 are
        common, 3.381 / 16 against 16 * (1/17^2 + ... + 1/512^2) / 496 each."""
        path = make_checkpoint(tmp_path, "tiny", peaked=True, dtype="F32")
        with open_checkpoint(path) as checkpoint:
            head = floats(checkpoint, "model.embed_tokens.weight")
            norm = floats(checkpoint, "model.norm.weight")
        assert (norm[::2] > 0).all()
        assert (norm[1::2] < 0).all()
        common, others = head[:16].mean(0), head[16:].mean(0)
        rarity = math.log(
            sum(1 / rank for rank in range(1, 17)) / 16
            / (16 * sum(1 / rank**2 for rank in range(17, 513)) / 496)
        )  # fmt: skip
        assert common[::2].mean() * (common - others)[::2].sum() == pytest.approx(rarity, rel=0.3)
        assert abs((common - others)[1::2].mean()) < 0.1 * (common - others)[::2].mean() + 0.02

    def test_without_it_nothing_changes(self, tmp_path: Path) -> None:
        plain = make_checkpoint(tmp_path / "plain", "tiny")
        same = make_checkpoint(tmp_path / "same", "tiny", peaked=False)
        name = "model.safetensors"
        assert (plain / name).read_bytes() == (same / name).read_bytes()

    def test_it_needs_an_embedding_of_floats(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidParameterError, match="peaked"):
            make_checkpoint(tmp_path, "tiny", peaked=True, form="groups64", ternary_embedding=True)
        with pytest.raises(InvalidParameterError, match="peaked"):
            make_checkpoint(tmp_path, "tiny", peaked=1)  # type: ignore[arg-type]
