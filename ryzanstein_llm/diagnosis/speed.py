"""How fast the machine reads and multiplies, and how near a model comes to that."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from ..bench.cases import Decode, Prefill, Sequences
from ..bench.figures import Spread
from ..bench.limits import MultiplyLimit, ReadLimit
from ..bench.measured_engine import MeasuredEngine
from ..bench.memory import memory_in_use
from ..bench.traffic import bytes_per_token
from ..model import BitNetModel
from ..profiling.costs import projection_multiply_adds
from ..system.memory import memory_limit

__all__ = ["measure_machine", "measure_model"]

ROUNDS = 5
READ_BYTES = 256 << 20  # more than caches hold
LIMIT_SECONDS = 0.1  # of a limit, in a round
CONTEXT, TOKENS, PROMPT = 16, 16, 128
PATIENCE = 8.0  # seconds for all rounds of a model


def measure_machine(n_threads: int) -> dict[str, Any]:
    """Both limits on one thread and on all: a list `threads` of {threads, read, multiply}, each a
    median, low and high over some rounds, in bytes and multiply-adds a second."""
    found = []
    memory = _read_bytes()
    for threads in sorted({1, n_threads}):
        read, multiply = ReadLimit(memory, LIMIT_SECONDS), MultiplyLimit(LIMIT_SECONDS)
        rounds = [
            [limit.measure(None, threads) for limit in (read, multiply)] for _ in range(ROUNDS)
        ]
        spreads = [
            Spread.of(one.amount / one.seconds for one in kind)
            for kind in zip(*rounds, strict=True)
        ]
        found.append(
            {"threads": threads, "read": asdict(spreads[0]), "multiply": asdict(spreads[1])}
        )
    return {"rounds": ROUNDS, "read_bytes": memory, "by_threads": found}


def _read_bytes() -> int:
    """Less than READ_BYTES where there is little memory."""
    limit = memory_limit()
    most = READ_BYTES if limit is None else limit.nbytes // 8
    return max(1, min(READ_BYTES, most) >> 20) << 20


def measure_model(path: str | os.PathLike[str] | None, **options: Any) -> dict[str, Any]:
    """Open a model, and measure it together with the limits.

    Parameters
    ----------
    path, options
        As for `BitNetModel`.

    Returns
    -------
    dict
        path, family, parameters, threads, threads_reason, weight_format, packed_file, load_seconds,
        weight_bytes, in_memory (see `memory_in_use`); decode and prompt, each with `rate` (tokens a
        second), `limit` (what memory or multiplication allow) and `share`, a median, low and high
        over the rounds; decode.bytes_per_token, prompt.multiply_adds_per_token, rounds.
    """
    start = time.perf_counter()
    with BitNetModel(path, **options) as model:
        seconds = time.perf_counter() - start
        facts = model.info()
        found = {
            "path": str(model.path),
            "family": facts["family"],
            "parameters": facts["parameters"],
            "threads": model.n_threads,
            "threads_reason": model.threads.reason,
            "weight_format": facts["weight_format"],
            "kv_dtype": model.kv_dtype,
            "packed_file": None if model.packed_file is None else str(model.packed_file),
            "load_seconds": seconds,
            "weight_bytes": facts["weight_bytes"],
            "in_memory": memory_in_use(),
        }
        if not model.graph.generates or model.context_length < 4 * TOKENS:
            return {**found, "decode": None, "prompt": None, "rounds": 0}
        return {**found, **_measure(model)}


def _measure(model: BitNetModel) -> dict[str, Any]:
    threads = model.n_threads
    engine = MeasuredEngine(model.engine, threads)
    decode = Decode(Sequences(model, CONTEXT), TOKENS)
    prompt = Prefill(model, min(PROMPT, model.context_length - 1))
    cases = (ReadLimit(_read_bytes(), LIMIT_SECONDS), decode, MultiplyLimit(LIMIT_SECONDS), prompt)
    multiply_adds = projection_multiply_adds(model.graph)
    layout = model.new_cache().layout
    rounds = []
    begin = time.perf_counter()
    for done in range(ROUNDS + 1):
        rounds.append([case.measure(engine, threads) for case in cases])
        if done and time.perf_counter() - begin > PATIENCE * done / (done + 1):
            break
    del rounds[0]  # it warmed things up
    counters = rounds[0][1].counters
    assert counters is not None
    traffic = bytes_per_token(
        model.graph,
        layout,
        CONTEXT + 1 + (TOKENS + 1) / 2,
        counters.head_rows / TOKENS,
        counters.densities,
    )
    rates = [[one.amount / one.seconds for one in case] for case in rounds]
    return {
        "rounds": len(rounds),
        "decode": {
            "bytes_per_token": traffic.total,
            **_against([(decoded, read / traffic.total) for read, decoded, _, _ in rates]),
        },
        "prompt": {
            "tokens": prompt.size,
            "multiply_adds_per_token": multiply_adds,
            **_against([(read, peak / multiply_adds) for _, _, peak, read in rates]),
        },
    }


def _against(rounds: list[tuple[float, float]]) -> dict[str, Any]:
    """Rates and limits of each round, which were measured one after the other."""
    return {
        "rate": asdict(Spread.of(rate for rate, _ in rounds)),
        "limit": asdict(Spread.of(limit for _, limit in rounds)),
        "share": asdict(Spread.of(rate / limit for rate, limit in rounds)),
    }
