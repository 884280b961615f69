"""The determinism contract: the same logits bit for bit, however they are computed.

Always `==` on bits, never closeness. The reference is the scalar tier on one thread,
whole prompt in one pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.engine import compute
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.kernels.workspace import Workspace

KV_DTYPES = ("float32", "bfloat16", "int8")
WEIGHT_FORMATS = ("2bit", "1.6bit", "table")
PROMPT = prompt(600)  # crosses two borders of cache blocks


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(autouse=True)
def always_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices would stay on one thread."""
    monkeypatch.setattr(compute, "SERIAL_BELOW", 0)


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> dict[str, Any]:
    """Bits of all logits of PROMPT, by kv_dtype, from the scalar tier."""
    former = cpu.current_tier()
    cpu.use_tier("scalar")
    results = {}
    for kind in KV_DTYPES:
        with BitNetModel(checkpoint, n_threads=1, kv_dtype=kind) as model:
            results[kind] = bits(model.forward(PROMPT))
    cpu.use_tier(former)
    return results


def bits(logits: Any) -> Any:
    assert np.isfinite(logits).all()
    return logits.view(np.uint32)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_tiers_and_threads(checkpoint, expected, tier, n_threads, kv_dtype):
    with BitNetModel(checkpoint, n_threads=n_threads, kv_dtype=kv_dtype) as model:
        assert (bits(model.forward(PROMPT)) == expected[kv_dtype]).all()


@pytest.mark.parametrize("skipping", [False, True])
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_weight_formats(checkpoint, expected, tier, weight_format, skipping):
    """In one pass, in passes of a few tokens, and alone; with and without skipping."""
    with BitNetModel(
        checkpoint, n_threads=2, weight_format=weight_format, skipping=skipping
    ) as model:
        assert model.info()["weight_format"] == weight_format
        cache = model.new_cache()
        parts = [PROMPT[:290], *([token] for token in PROMPT[290:293]), PROMPT[293:295]]
        logits = np.concatenate([model.forward(part, cache) for part in parts])
    assert (bits(logits) == expected["bfloat16"][:295]).all()


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("chunk", [1, 3, 5, 255, 257])
def test_prefill_in_chunks(checkpoint, expected, tier, chunk, kv_dtype, monkeypatch):
    monkeypatch.setattr(compute, "PASS_TOKENS", chunk)
    length = 600 if chunk > 5 else 270  # single tokens in the scalar tier take their time
    with BitNetModel(checkpoint, n_threads=2, kv_dtype=kv_dtype) as model:
        assert (bits(model.forward(PROMPT[:length])) == expected[kv_dtype][:length]).all()


def test_prefill_split_over_calls_on_one_cache(checkpoint, expected, tier):
    with BitNetModel(checkpoint, n_threads=2) as model:
        cache = model.new_cache()
        parts = [PROMPT[:1], PROMPT[1:256], PROMPT[256:300], PROMPT[300:303], PROMPT[303:]]
        logits = np.concatenate([model.forward(part, cache) for part in parts])
    assert (bits(logits) == expected["bfloat16"]).all()


def test_only_the_last_logits_are_the_last_of_all(checkpoint, expected, tier):
    with BitNetModel(checkpoint, n_threads=2) as model:
        assert (bits(model.forward(PROMPT, logits="last"))[0] == expected["bfloat16"][-1]).all()


@pytest.mark.parametrize("kept", [0, 1, 255, 256, 257, 511, 599])
def test_a_truncated_cache_continues_as_a_new_one(checkpoint, expected, kept):
    with BitNetModel(checkpoint, n_threads=2) as model:
        cache = model.new_cache()
        model.forward(PROMPT[:kept] + prompt(600 - kept), cache, logits="last")
        cache.truncate(kept)
        assert (bits(model.forward(PROMPT[kept:], cache)) == expected["bfloat16"][kept:]).all()


def test_sequences_in_one_pass_as_each_alone(checkpoint, expected, tier):
    lengths = [1, 7, 255, 256, 257, 599]
    with BitNetModel(checkpoint, n_threads=2) as model:
        caches = [model.new_cache() for _ in lengths]
        for cache, length in zip(caches, lengths, strict=True):
            model.forward(PROMPT[:length], cache, logits="last")
            cache.reserve(length + 1)
        workspace = Workspace(2)
        hidden = model.graph.hidden_states(
            np.array([PROMPT[length] for length in lengths]),
            [(1, cache.length, cache.table) for cache in caches],
            caches[0].layout,
            workspace,
        )
        together = model.graph.logits(hidden, workspace)
    assert (bits(together) == expected["bfloat16"][lengths]).all()


def test_flush_to_zero_set_by_the_caller_changes_nothing(checkpoint, expected, tier):
    with BitNetModel(checkpoint, n_threads=2) as model:
        cpu.set_flush_to_zero(True)
        try:
            logits = model.forward(PROMPT)
        finally:
            cpu.set_flush_to_zero(False)
    assert (bits(logits) == expected["bfloat16"]).all()


def test_sampled_text_is_the_same_in_every_tier(checkpoint):
    options = {"temperature": 1.3, "top_k": 200, "top_p": 0.97, "min_p": 0.001, "typical_p": 0.98}
    texts = set()
    former = cpu.current_tier()
    for name in cpu.available_tiers():
        cpu.use_tier(name)
        with BitNetModel(checkpoint, n_threads=2) as model:
            result = model.generate(
                PROMPT[:20], max_tokens=60, seed=3, ignore_eos=True, return_result=True, **options
            )
            texts.add(tuple(result.ids))
    cpu.use_tier(former)
    assert len(texts) == 1
    assert len(next(iter(texts))) == 60


SCRIPT = """
import hashlib, sys
import ryzanstein_llm
with ryzanstein_llm.BitNetModel(sys.argv[1]) as model:
    logits = model.forward(list(range(2, 290)))
    result = model.generate([5, 6, 7], max_tokens=40, temperature=1.2, top_p=0.9, typical_p=0.9,
                            repetition_penalty=1.1, seed=9, ignore_eos=True, return_result=True)
    print(hashlib.sha256(logits.tobytes()).hexdigest(), result.ids)
"""

# What other machines' NumPy and C library would choose.
ENVIRONMENTS = {
    "numpy-baseline": {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
    "glibc-without-avx": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-FMA,-FMA4,-ERMS"},
    "one-thread": {"OMP_NUM_THREADS": "1"},
    "scalar": {"RYZANSTEIN_ISA": "scalar"},
}


def test_other_machines_libraries_change_nothing(checkpoint):
    def run(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(checkpoint)],
            env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    plain = run()
    assert plain
    for name, environment in ENVIRONMENTS.items():
        assert run(**environment) == plain, name
