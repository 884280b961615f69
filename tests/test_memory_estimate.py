"""What `estimate_memory` says is what a process takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from reference import write_random_checkpoint, write_random_family

import ryzanstein_llm
from ryzanstein_llm import BitNetModel, MemoryEstimate, estimate_memory
from ryzanstein_llm.errors import CheckpointNotFoundError, FormatError, InvalidParameterError
from ryzanstein_llm.inspection import inspect_checkpoint
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.system import threads
from ryzanstein_llm.testing import make_checkpoint

# Prints what loading and then using the whole of a model adds to the memory of a process that has
# run another model already: the peaks, and how much of them is pages of the checkpoint in the end.
MEASURE = """
import ctypes, gc, json, sys
import numpy as np
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.inspection import inspect_checkpoint
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.system import threads

path, options, cache = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
loading.LEAST_BYTES = 1

def status():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    found = {k: int(lines[k].split()[0]) * 1024 for k in ("VmRSS", "VmHWM")}
    return {**found, "checkpoint": checkpoint_pages()}

def checkpoint_pages():
    pages = ours = 0
    for line in open("/proc/self/smaps"):
        words = line.split()
        if not words[0].endswith(":"):
            ours = path in line and not (cache and cache in line)
        elif ours and words[0] == "Rss:":
            pages += int(words[1]) * 1024
    return pages

def forget_peak():
    open("/proc/self/clear_refs", "w").write("5")

def read_embedding(model):
    for first in range(0, model.vocab_size, 1000):
        rows = np.arange(first, min(model.vocab_size, first + 1000))
        model.graph.embedding.rows(rows)

def read_head(model):
    # before the prompt, so that its pages are there together with the activations of a pass
    model.graph.head.matrix.array.reshape(-1).view(np.uint8).max()

with BitNetModel(n_threads=1) as model:
    model.generate("Once", max_tokens=3)
    model.generate([5], max_tokens=3, logprobs=1, return_result=True)
    read_embedding(model)
del model
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
forget_peak()
before = status()
model = BitNetModel(path, packed_cache=cache or False, **options)
loaded = status()
forget_peak()
read_embedding(model)
read_head(model)
ids = [7919 * i % model.vocab_size for i in range(model.context_length - 1)]
model.generate(ids, max_tokens=1, logprobs=1, ignore_eos=True, return_result=True)
used = status()
print(json.dumps({
    "loading": loaded["VmHWM"] - before["VmRSS"],
    "total": used["VmHWM"] - before["VmRSS"],
    "mapped": used["checkpoint"],
    "mapped_loading": loaded["checkpoint"],
}))
"""

MEDIUM: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 20000,
    "max_position_embeddings": 2048,
}  # fmt: skip


def _forget_pages(directory: Path) -> None:
    """Of a new file, Linux may map 2 MiB where a few bytes are looked at. Read from the disk, it
    comes in smaller pieces."""
    for file in directory.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def check(path: Path, cache: Path | None, **given: Any) -> None:
    options = {"n_threads": 1, **given}
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured with /proc")
    estimate = estimate_memory(path, packed_cache=cache or False, **options)
    _forget_pages(path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), json.dumps(options), str(cache or "")],
        check=True, capture_output=True, text=True,
        cwd=Path(ryzanstein_llm.__file__).parent.parent,
    )  # fmt: skip
    found = json.loads(run.stdout)
    # Linux may map more pages of a file than are asked for, and drops them when memory is short.
    total = found["total"] - max(0, found["mapped"] - estimate.mapped)
    assert estimate.total == pytest.approx(total, rel=0.03)
    loading = found["loading"] - found["mapped_loading"]
    assert estimate.peak_while_loading == pytest.approx(loading, rel=0.05, abs=4 << 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured with /proc")
@pytest.mark.parametrize("cached", [False, True], ids=["in-memory", "with-a-file"])
@pytest.mark.parametrize(
    ("model_type", "form", "changes"),
    [
        ("llama", "packed", {}),
        ("qwen2", "row", {}),
        ("qwen3", "group64", {"head_dim": 64}),
        ("hunyuan_v1_dense", "group128", {"head_dim": 64, "tie_word_embeddings": True}),
        (
            "gemma3_text",
            "master",
            {
                "head_dim": 64,
                "tie_word_embeddings": True,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
        ),
        ("bitnet", "master", {}),
    ],
)
def test_is_within_3_percent_for_each_family(
    model_type: str,
    form: str,
    changes: dict[str, Any],
    cached: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)
    write_random_family(tmp_path / "model", model_type, form, **{**MEDIUM, **changes})
    check(tmp_path / "model", tmp_path / "cache" if cached else None, context_length=700)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured with /proc")
def test_is_within_3_percent_for_2b_4t(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "2b", preset="bitnet-b1.58-2B-4T")
    check(tmp_path / "2b", None, context_length=512)
    check(tmp_path / "2b", tmp_path / "cache", context_length=512)


@pytest.mark.parametrize("weight_format", ["2bit", "1.6bit", "table"])
@pytest.mark.parametrize("skipping", [True, False])
def test_weights_are_those_of_the_open_model(
    weight_format: str, skipping: bool, tmp_path: Path
) -> None:
    """Exactly, but for the rest of the last pages."""
    write_random_checkpoint(tmp_path)
    options = {"weight_format": weight_format, "skipping": skipping}
    estimate = estimate_memory(tmp_path, **options)
    with BitNetModel(tmp_path, n_threads=1, packed_cache=False, **options) as model:
        found = estimate.weights + estimate.embedding + estimate.screen
        assert 0 <= found - model.info()["weight_bytes"] < (2 << 20) + 100_000


def test_keys_and_values_follow_from_context_kind_and_sequences(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    one = estimate_memory(tmp_path, context_length=256)
    assert estimate_memory(tmp_path, context_length=257).kv_cache == 2 * one.kv_cache
    assert estimate_memory(tmp_path).kv_cache == 2 * one.kv_cache  # the checkpoint's 512
    assert estimate_memory(tmp_path, context_length=256, sequences=7).kv_cache == 7 * one.kv_cache
    assert estimate_memory(tmp_path, kv_dtype="float32").kv_cache >= 2 * one.kv_cache


@pytest.mark.parametrize(("model_type", "form"), [("bitnet", "master"), ("qwen3", "group64")])
def test_each_thread_has_scratch_memory(
    model_type: str, form: str, tier: str, tmp_path: Path
) -> None:
    """Exactly; beside it, a thread has the 64 bytes of its state."""
    write_random_family(tmp_path, model_type, form, max_position_embeddings=600)
    found, estimates = [], []
    for n_threads in (1, 3, 8):
        estimates.append(estimate_memory(tmp_path, n_threads=n_threads).workspace)
        with BitNetModel(tmp_path, n_threads=n_threads) as model:
            model.forward([i % model.vocab_size for i in range(599)], logits="last")
            found.append(model.engine._workspace.nbytes - 64 * n_threads)
    assert [each - estimates[0] for each in estimates] == [each - found[0] for each in found]
    assert found[0] < found[1] < found[2]


def test_the_threads_are_those_that_the_model_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small model takes fewer threads than the machine has."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(32)), raising=False)
    monkeypatch.setattr(threads, "_physical_cores", lambda cpus, root: 32)
    monkeypatch.setattr(threads, "cpu_quota", lambda root: None)
    assert estimate_memory() == estimate_memory(n_threads=1)
    assert inspect_checkpoint()["memory"] == estimate_memory(n_threads=1)
    write_random_family(tmp_path, "llama", "packed", **MEDIUM)
    weights = inspect_checkpoint(tmp_path)["parameters"]
    useful = weights // threads.WEIGHTS_PER_THREAD
    assert 1 < useful < 32
    assert estimate_memory(tmp_path) == estimate_memory(tmp_path, n_threads=useful)
    assert estimate_memory(tmp_path) != estimate_memory(tmp_path, n_threads=32)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert estimate_memory() == estimate_memory(n_threads=3) != estimate_memory(n_threads=1)


def test_the_total_is_the_sum_of_its_parts() -> None:
    found = estimate_memory()
    parts = {field.name: getattr(found, field.name) for field in fields(MemoryEstimate)}
    total, peak = parts.pop("total"), parts.pop("peak_while_loading")
    assert 0 <= parts.pop("mapped") <= found.embedding
    assert total == sum(parts.values())
    assert found.needed == max(total, peak)
    assert repr(found).startswith("MemoryEstimate(total ")
    assert "MB while loading)" in repr(found)


def test_no_weight_is_read(tmp_path: Path) -> None:
    """A file whose projections are damaged has the same estimate: only loading notices."""
    write_random_checkpoint(tmp_path)
    before = estimate_memory(tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-4000:] = b"\xff" * 4000
    file.write_bytes(data)
    assert estimate_memory(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"context_length": 513}, "context_length must be in 1..512, not 513"),
        ({"kv_dtype": "int4"}, "'int4'"),
        ({"weight_format": "4bit"}, "'4bit'"),
        ({"sequences": 0}, "sequences must be in 1"),
        ({"n_threads": 0}, "n_threads must be in 1..1024, not 0"),
        ({"skipping": 1}, "skipping must be True or False"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameterError, match=named):
        estimate_memory(**options)


def test_wrong_files_are_refused_as_when_loading(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        estimate_memory(tmp_path / "nowhere")
    write_random_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(FormatError):
        estimate_memory(tmp_path)
