"""The determinism contract for every optional part of a layer: equal bits in every tier, on any
number of threads, in one pass or many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import FamilyReference, relative_error, write_random_family

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.engine import compute
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.kernels.workspace import Workspace

# A window that is no multiple of a cache block and one that is; prompts of three blocks.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "window-300": ("gemma3_text", "packed", {"sliding_window": 300}),
    "window-256": ("gemma3_text", "packed", {"sliding_window": 256}),
    "window-1": ("gemma3_text", "packed", {"sliding_window": 1}),
    "projection-norms": ("qwen3", "master", {"projection_norms": True}),
    "biases": ("llama", "packed", {"attention_bias": True, "mlp_bias": True}),
    "norms-after-rope": ("hunyuan_v1_dense", "packed", {}),
    "groups": ("qwen3", "group64", {}),
}
IDS = np.random.default_rng(3).integers(2, 131, 600).tolist()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(checkpoint, bits of all logits of IDS from the scalar tier on one thread)"""
    model_type, form, changes = CASES[request.param]
    directory = tmp_path_factory.mktemp("family") / request.param
    write_random_family(
        directory, model_type, form, seed=4, max_position_embeddings=1024,
        tie_word_embeddings=True, **changes,
    )  # fmt: skip
    former = cpu.current_tier()
    cpu.use_tier("scalar")
    with BitNetModel(directory, n_threads=1) as model:
        expected = bits(model.forward(IDS))
    cpu.use_tier(former)
    return directory, expected


@pytest.fixture(autouse=True)
def always_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "SERIAL_BELOW", 0)


def bits(logits: Any) -> Any:
    assert np.isfinite(logits).all()
    return logits.view(np.uint32)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_tiers_and_threads(case: Any, tier: str, n_threads: int) -> None:
    directory, expected = case
    with BitNetModel(directory, n_threads=n_threads) as model:
        assert (bits(model.forward(IDS)) == expected).all()


@pytest.mark.parametrize("chunk", [1, 5, 257])
def test_prefill_in_chunks(case: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, expected = case
    monkeypatch.setattr(compute, "PASS_TOKENS", chunk)
    with BitNetModel(directory, n_threads=2) as model:
        assert (bits(model.forward(IDS)) == expected).all()


def test_sequences_in_one_pass_as_each_alone(case: Any) -> None:
    directory, expected = case
    lengths = [1, 7, 255, 256, 299, 300, 301, 556, 599]
    with BitNetModel(directory, n_threads=2) as model:
        caches = [model.new_cache() for _ in lengths]
        for cache, length in zip(caches, lengths, strict=True):
            model.forward(IDS[:length], cache, logits="last")
            cache.reserve(length + 1)
        workspace = Workspace(2)
        hidden = model.graph.hidden_states(
            np.array([IDS[length] for length in lengths]),
            [(1, cache.length, cache.table) for cache in caches],
            caches[0].layout,
            workspace,
        )
        together = model.graph.logits(hidden, workspace)
    assert (bits(together) == expected[lengths]).all()


def test_branches_in_one_pass_as_each_alone(case: Any) -> None:
    """Each overwrites what the one before it left."""
    directory, expected = case
    with BitNetModel(directory, n_threads=2) as model:
        cache = model.new_cache()
        model.forward(IDS[:505], cache, logits="last")
        cache.reserve(530)
        workspace = Workspace(2)
        parts = [(505, IDS[505:525]), (505, IDS[:9]), (507, IDS[:1]), (505, IDS[505:520])]
        hidden = model.graph.hidden_states(
            np.concatenate([ids for _, ids in parts]),
            [(len(ids), position, cache.table) for position, ids in parts],
            cache.layout,
            workspace,
        )
        logits = bits(model.graph.logits(hidden, workspace))
        alone = model.forward([*IDS[:505], *IDS[:2], IDS[0]])[505:]
    assert (logits[:20] == expected[505:525]).all()
    assert (logits[20:22] == bits(alone)[:2]).all()
    assert (logits[29] == bits(alone)[2]).all()
    assert (logits[30:] == expected[505:520]).all()


@pytest.mark.parametrize("window", [1, 2, 255, 256, 257, 511])
def test_a_window_hides_what_the_reference_hides(window: int, tmp_path: Path) -> None:
    """Of one layer, so that no token beyond the window can be seen through another one. What comes
    near a rounding tie is rounded apart, so only most rows can agree closely."""
    write_random_family(
        tmp_path, "gemma3_text", seed=1, sliding_window=window, num_hidden_layers=1,
        layer_types=["sliding_attention"], tie_word_embeddings=True, max_position_embeddings=1024,
    )  # fmt: skip
    expected = FamilyReference.open(tmp_path).forward(IDS)
    with BitNetModel(tmp_path, n_threads=1, kv_dtype="float32") as model:
        error = relative_error(model.forward(IDS), expected)
        other = [int(i) for i in np.roll(IDS, 1)]
        changed = model.forward([*other[: 600 - window], *IDS[600 - window :]])
        assert (bits(changed)[-1] == bits(model.forward(IDS))[-1]).all()
    assert np.median(error) < 1e-4
    assert np.max(error) < 0.1
