"""The workers compute what they say: each engine on small random models, in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra
from small_model import prompt, write_small_model

from benchmarks.peers import ryzanstein_worker
from benchmarks.peers.__main__ import main
from benchmarks.peers.ryzanstein_worker import RyzansteinWorker
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.kernels import cpu

VARIABLE = "RYZANSTEIN_LLAMA_PYTHON"


@pytest.fixture(scope="module")
def llama_python() -> str:
    """An interpreter that has llama-cpp-python; `RYZANSTEIN_LLAMA_PYTHON` names another one."""
    needs_extra("peers", "gguf")
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip(f"no llama-cpp-python here (extra peers), and {VARIABLE} names no other Python")
    return sys.executable


def compare(directory: Path, *options: str) -> dict[str, Any]:
    """What a short comparison writes."""
    target = directory / "found.json"
    status = main(
        [
            "compare", "--preset", "tales-6m", "--directory", str(directory), "--threads", "1",
            "--rounds", "1", "--prefill", "40", "--contexts", "7", "--tokens", "4",
            "--json", str(target), *options,
        ]
    )  # fmt: skip
    assert status == 0
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


def test_our_worker_is_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ryzanstein_worker, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(ryzanstein_worker, "SECONDS", 0.005)
    path = write_small_model(tmp_path)
    worker, ids, tier = RyzansteinWorker(str(path)), prompt(20), cpu.current_tier()
    with BitNetModel(path, n_threads=1) as model:
        for threads in (1, 2):
            seconds, logits = worker.prefill(ids, threads)
            assert seconds > 0
            assert logits.tobytes() == model.forward(ids, logits="last")[0].tobytes()
            seconds, found, last = worker.decode(ids, 6, threads)
            assert seconds > 0
            assert last is None
            result = model.generate(ids, max_tokens=7, ignore_eos=True, return_result=True)
            assert found == result.ids
    assert len(worker.check([1, 2])["check"]["settings"]) == 2
    assert cpu.current_tier() == tier
    limits = worker.limits(2)["limits"]
    assert limits.keys() == {"read", "multiply"}
    assert min(limits.values()) > 0


def test_llama_cpp_computes_our_silu_variant(
    llama_python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`compare` itself refuses cosines below 0.99. With the embedding as it is stored what is left
    is how activations are quantised."""
    options = ["--llama-python", llama_python, "--ternary", "TQ2_0", "TQ1_0"]
    for embedding, least in (("Q6_K", 0.99), ("BF16", 0.998)):
        found = compare(tmp_path, *options, "--embedding", embedding)
        assert list(found["engines"]) == ["ryzanstein_llm", "llama.cpp TQ2_0", "llama.cpp TQ1_0"]
        about = found["engines"]["llama.cpp TQ2_0"]
        assert "llama-cpp-python" in about["versions"]
        assert "AVX" in about["build"]
        cosines = [row["cosine"] for row in found["rows"] if row["engine"] != "ryzanstein_llm"]
        assert len(cosines) == 4
        assert min(cosines) > least
    assert "llama.cpp TQ1_0" in capsys.readouterr().out


def test_another_activation_function_would_be_noticed(
    llama_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """With the checkpoint itself, relu², as the reference, the comparison fails."""
    monkeypatch.setattr("benchmarks.peers.files.silu_variant", lambda checkpoint, _: checkpoint)
    with pytest.raises(AssertionError):
        compare(tmp_path, "--llama-python", llama_python, "--ternary", "TQ2_0")
    assert "cosine of the last logits" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parity
def test_transformers_computes_our_model(tmp_path: Path) -> None:
    needs_extra("parity", "torch", "transformers")
    needs_extra("peers", "gguf")
    found = compare(tmp_path, "--ternary", "--transformers")
    assert list(found["engines"]) == ["ryzanstein_llm", "transformers bf16"]
    assert min(row["cosine"] for row in found["rows"] if row["cosine"] is not None) > 0.99
