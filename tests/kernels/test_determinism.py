"""The determinism contract at the level of kernels: equal bits, whatever does the work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ryzanstein_llm.kernels import cpu, packing, threads
from ryzanstein_llm.kernels.elementwise import quantize, softmax_weights
from ryzanstein_llm.kernels.linear import norm_dense, norm_gated, norm_project
from ryzanstein_llm.kernels.workspace import Workspace

from .calls import CASES, PARALLEL
from .hard_floats import normal
from .same_bits import assert_same_bits, in_every_tier
from .ternary_cases import random_case
from .test_groups import Case as GroupCase


def flushes_to_zero() -> bool:
    """Whether arithmetic in this thread loses subnormal numbers."""
    return float((np.full(1, 1e-40, np.float32) * np.float32(0.5))[0]) == 0.0


@pytest.fixture
def flush_to_zero() -> Iterator[None]:
    cpu.set_flush_to_zero(True)
    yield
    cpu.set_flush_to_zero(False)


@pytest.mark.parametrize("name", CASES)
def test_every_tier_gives_the_bits_of_scalar(name: str) -> None:
    in_every_tier(lambda: CASES[name](1))


@pytest.mark.parametrize("name", PARALLEL)
def test_threads_do_not_matter(name: str, tier: str) -> None:
    one = CASES[name](1)
    for n_threads in (2, 3):
        assert_same_bits(CASES[name](n_threads), one)


@pytest.mark.parametrize("name", CASES)
def test_flush_to_zero_of_the_caller_does_not_matter(
    name: str, tier: str, flush_to_zero: None
) -> None:
    """Neither in the calling thread nor in workers, which may inherit its mode."""
    cpu.set_flush_to_zero(False)
    expected = CASES[name](1)
    cpu.set_flush_to_zero(True)
    assert flushes_to_zero()
    assert_same_bits(CASES[name](1), expected)
    assert flushes_to_zero(), "the caller's mode was not put back"
    if name in PARALLEL:
        threads.release_team()  # so that new workers start from this thread's mode
        assert_same_bits(CASES[name](2), expected)
        assert flushes_to_zero()


def test_kernels_leave_the_ordinary_mode_alone(tier: str) -> None:
    for name in PARALLEL:
        CASES[name](2)
        assert not flushes_to_zero()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 13])
def test_tokens_together_or_apart(chunk: int, tier: str, rng: np.random.Generator) -> None:
    """Register tiles of tokens differ with their number; the bits of a token do not."""
    x, gain = normal(rng, 40, 100), normal(rng, 100)
    (gate, _), (up, _) = random_case(70, 100, 1), random_case(70, 100, 2)
    head = normal(rng, 67, 100)

    def run(rows: np.ndarray) -> np.ndarray:
        workspace = Workspace(2)
        parts = [np.empty((len(rows), width), np.float32) for width in (70, 70, 67)]
        norm_project(rows, gain, 1e-5, [gate], [parts[0]], workspace)
        norm_gated(rows, gain, 1e-5, gate, up, "silu", parts[1], workspace)
        norm_dense(rows, gain, 1e-5, head, "F32", parts[2], workspace)
        return np.concatenate(parts, axis=1)

    pieces = [run(x[at : at + chunk]) for at in range(0, len(x), chunk)]
    assert_same_bits(np.concatenate(pieces), run(x))


def test_nan_and_infinity_behave_alike_in_every_tier() -> None:
    """Garbage in, the same garbage out: a NaN anywhere in a vector, infinities, both."""
    for size in (3, 16, 17, 40):
        for place in {0, 1, size // 2, size - 1}:
            for bad in (np.nan, np.inf, -np.inf):
                x = np.linspace(-2, 2, size, dtype=np.float32)
                x[place] = bad
                in_every_tier(lambda x=x: tuple(map(np.asarray, softmax_weights(x))))
                in_every_tier(lambda x=x: tuple(map(np.asarray, quantize(x))))


@pytest.mark.parametrize("layout", [*packing.LAYOUTS, *packing.GROUP_LAYOUTS, "floats"])
def test_tokens_of_a_prompt_are_divided_among_many_threads(
    layout: str, tier: str, rng: np.random.Generator
) -> None:
    """Where there are more threads than panels of rows, tasks are blocks of tokens, too."""
    tokens, kept = 300, "groups64" if layout == "floats" else layout
    x, gain = normal(rng, tokens, 320), normal(rng, 320)
    if kept in packing.GROUP_LAYOUTS:
        kind = "none" if layout == "floats" else "group"
        gate, up = (GroupCase(133, 320, kept, seed).matrix(kind) for seed in (1, 2))
    else:
        gate, up = (random_case(133, 320, seed, kept)[0] for seed in (1, 2))

    def run(n_threads: int) -> list[np.ndarray]:
        workspace = Workspace(n_threads)
        out = [np.full((tokens, 133), 0.1, np.float32) for _ in range(3)]
        norm_project(x, gain, 1e-5, [gate, up], out[:2], workspace, accumulate=True)
        norm_gated(x, gain, 1e-5, gate, up, "silu", out[2], workspace)
        return out

    one = run(1)
    for n_threads in (2, 16):
        for found, expected in zip(run(n_threads), one, strict=True):
            assert_same_bits(found, expected)
