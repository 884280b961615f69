"""Threads of parallel regions, shared scratch memory, and cancelling."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ryzanstein_llm.kernels import threads
from ryzanstein_llm.kernels.linear import norm_dense, norm_gated, norm_project
from ryzanstein_llm.kernels.workspace import Workspace

from .block_cache import BlockCache, BlockLayout, attend, random_qkv, rotary
from .calls import CASES
from .same_bits import assert_same_bits
from .ternary_cases import random_case


def test_a_region_gets_the_threads_it_asked_for() -> None:
    for n_threads in (1, 2, 3, 5):
        assert threads.measure_team(n_threads) == n_threads


def test_workers_go_home_and_come_back() -> None:
    def workers() -> int:
        return len(os.listdir("/proc/self/task"))

    if not os.path.isdir("/proc/self/task"):
        pytest.skip("counts the threads of the process in /proc")
    threads.measure_team(3)
    busy = workers()
    threads.release_team()
    assert workers() <= busy - 2
    assert threads.measure_team(3) == 3
    threads.release_team()
    threads.release_team()  # nothing to release: no harm


def test_a_forked_child_computes_serially_and_does_not_hang() -> None:
    """libgomp's workers do not survive fork; the child's bits are the same."""
    script = """
        import os, sys, warnings
        import numpy as np
        from ryzanstein_llm.kernels import threads
        from ryzanstein_llm.kernels.linear import norm_dense
        from ryzanstein_llm.kernels.workspace import Workspace

        def compute():
            x = np.linspace(-1, 1, 600, dtype=np.float32).reshape(2, 300)
            w = np.linspace(-2, 3, 60000, dtype=np.float32).reshape(200, 300)
            out = np.empty((2, 200), np.float32)
            norm_dense(x, None, 1e-5, w, "F32", out, Workspace(2))
            return out.tobytes()

        parent = compute()
        assert not threads.is_serial_after_fork()
        warnings.simplefilter("ignore")  # Python 3.12 warns of fork with threads
        child = os.fork()
        if child == 0:
            fine = threads.is_serial_after_fork() and threads.measure_team(2) == 1
            threads.release_team()
            os._exit(0 if fine and compute() == parent else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this platform")
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_workspace_grows_and_is_reused(tier: str, rng: np.random.Generator) -> None:
    """Calls of all sizes in one workspace give what they give in their own; memory levels off."""
    shared = Workspace(2)
    for _ in range(2):
        for tokens, columns in ((1, 17), (30, 600), (2, 5), (65, 100), (1, 3000)):
            matrix, _ = random_case(70, columns)
            x = np.random.default_rng(tokens).standard_normal((tokens, columns), np.float32)
            outputs = [np.empty((tokens, 70), np.float32) for _ in range(2)]
            for out, workspace in zip(outputs, (shared, Workspace(1)), strict=True):
                norm_project(x, None, 1e-5, [matrix], [out], workspace)
            assert_same_bits(*outputs)
        held = shared.nbytes
    assert shared.nbytes == held > 0
    assert Workspace(1).nbytes < held


def test_calls_may_follow_in_any_order_in_one_process(tier: str) -> None:
    names = ["norm_gated-normal", "attention_int8-normal", "norm_dense_BF16-normal"]
    first = [CASES[name](2) for name in names]
    for name, expected in reversed(list(zip(names, first, strict=True))):
        assert_same_bits(CASES[name](2), expected)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_cancelled_calls_do_no_work(n_threads: int, tier: str, rng: np.random.Generator) -> None:
    """Outputs of products stay as they were, and the next call computes again."""
    flag = np.ones(1, np.int32)
    workspace = Workspace(n_threads)
    workspace.use_cancel_flag(flag)
    assert workspace.cancel_flag is flag
    x = rng.standard_normal((3, 100), np.float32)
    (gate, _), (up, _) = random_case(70, 100, 1), random_case(70, 100, 2)
    head = rng.standard_normal((70, 100), np.float32)
    out = np.full((3, 70), np.nan, np.float32)

    def project() -> None:
        norm_project(x, None, 1e-5, [gate], [out], workspace)

    calls = (
        project,
        lambda: norm_gated(x, None, 1e-5, gate, up, "relu2", out, workspace),
        lambda: norm_dense(x, None, 1e-5, head, "F32", out, workspace),
    )
    for call in calls:
        call()
        assert np.isnan(out).all()
    flag[0] = 0
    for call in calls:
        call()
        assert np.isfinite(out).all()
        out[...] = np.nan


@pytest.mark.parametrize("rows", [2, 40])
def test_cancelled_attention_stays_in_bounds(
    rows: int, tier: str, rng: np.random.Generator
) -> None:
    """Its output is meaningless, but only its output and its cache are written; and the
    positions before the call are untouched, so that the pass can be taken back."""
    from ryzanstein_llm.kernels.attention import rope_append_attend

    layout = BlockLayout("int8", kv_heads=1, head_dim=16)
    qkv = random_qkv(rng, 300, layout, 2)
    cache = BlockCache(layout, 300)
    attend(qkv[: 300 - rows], [(300 - rows, 0, cache)], 2)
    before = cache.stored(300 - rows)
    held = np.full((rows + 2, 32), 7, np.float32)
    workspace = Workspace(1)
    workspace.cancel_flag[0] = 1
    segments = [(rows, 300 - rows, cache.table)]
    new = qkv[300 - rows :].copy()
    rope_append_attend(new, segments, layout, 0, 2, rotary(16, 300), 0.25, held[1:-1], workspace)
    assert np.all(held[[0, -1]] == 7)
    assert_same_bits(cache.stored(300 - rows), before)
    whole = BlockCache(layout, 300)
    expected = attend(qkv, [(300, 0, whole)], 2)[300 - rows :]
    assert_same_bits(attend(qkv[300 - rows :], [(rows, 300 - rows, cache)], 2), expected)
