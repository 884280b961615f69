"""This library, as `ryzanstein-llm bench` measures it: the loop and the passes that users get."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.bench.cases import FirstToken
from ryzanstein_llm.bench.check import check_against_scalar
from ryzanstein_llm.bench.limits import MultiplyLimit, ReadLimit
from ryzanstein_llm.bench.machine import machine_card
from ryzanstein_llm.bench.measured_engine import MeasuredEngine
from ryzanstein_llm.bench.plan import Setting, make_plan
from ryzanstein_llm.engine.compute import new_cancel_flag
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.sampling import Sampler, SamplingParams

from .protocol import Float32, serve

__all__ = ["RyzansteinWorker"]

READ_BYTES = 512 << 20  # far above any cache
SECONDS = 0.15  # about how long a limit is measured


class RyzansteinWorker:
    """See `protocol.Worker`. Its decoding gives no logits: greedy tokens need but a few of them."""

    def __init__(self, path: str) -> None:
        self._model = BitNetModel(path, n_threads=1)
        self.vocab_size = self._model.vocab_size
        self._engines: dict[int, MeasuredEngine] = {}
        self._limits: tuple[ReadLimit, MultiplyLimit] | None = None
        self.also: dict[str, Any] = {"check": self.check, "limits": self.limits}
        card = machine_card()
        self.about = {
            "engine": "ryzanstein_llm",
            "versions": {"ryzanstein_llm": card["version"], "commit": card["commit"]},
            "build": card["compiler"],
            "model": f"{self._model.graph.weight_bytes / 1e6:.0f} MB of weights",
            "options": {"tier": cpu.current_tier(), "kv_dtype": self._model.kv_dtype},
        }

    def prefill(self, ids: list[int], threads: int) -> tuple[float, Float32]:
        engine = self._engine(threads)
        start = time.perf_counter()
        logits = engine.last_logits(self._model.new_cache(), ids, new_cancel_flag())
        return time.perf_counter() - start, logits

    def decode(self, ids: list[int], tokens: int, threads: int) -> tuple[float, list[int], None]:
        engine = self._engine(threads)
        sequence = engine.sequence(
            list(ids), Sampler(SamplingParams()), max_tokens=tokens + 1, listener=FirstToken()
        )
        engine.advance(sequence, to_end=False)  # the first token is not timed
        start = time.perf_counter()
        engine.advance(sequence, to_end=True)
        seconds = time.perf_counter() - start
        engine.leave(sequence, keep=False)
        return seconds, sequence.tokens[len(ids) :], None

    def check(self, threads: list[int]) -> dict[str, Any]:
        """Tokens and logits of a short run with each number of threads against the scalar tier."""
        tier = cpu.current_tier()
        plan = make_plan(threads, tier, sampled="none")

        def use(setting: Setting) -> MeasuredEngine:
            cpu.use_tier(setting.tier)
            return self._engine(setting.threads)

        try:
            return {"check": check_against_scalar(self._model, plan, use)}
        finally:
            cpu.use_tier(tier)

    def limits(self, threads: int) -> dict[str, Any]:
        """What the machine can do at best: bytes read, and int8 multiply-adds, in a second."""
        if self._limits is None:
            self._limits = (ReadLimit(READ_BYTES, SECONDS), MultiplyLimit(SECONDS))
        found = {}
        for limit in self._limits:
            measured = limit.measure(self._engine(threads), threads)
            found[limit.name] = measured.amount / measured.seconds
        return {"limits": found}

    def _engine(self, threads: int) -> MeasuredEngine:
        if threads not in self._engines:
            self._engines[threads] = MeasuredEngine(self._model.engine, threads)
        return self._engines[threads]


def main() -> None:
    """Answer the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    path = parser.parse_args().model
    serve(lambda: RyzansteinWorker(path))


if __name__ == "__main__":
    main()
