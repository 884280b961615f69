"""Answers `python -m benchmarks.versions`: a script that imports the library of its Python, version
2.0 or later, and nothing else of this repository.

    python worker.py CHECKPOINT THREADS
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from typing import Any

import numpy as np

import ryzanstein_llm
from ryzanstein_llm.kernels import limits

PRODUCTS = ("qkv", "o", "gate_up", "gate", "up", "down")
Answer = dict[str, Any]


class Measurements:
    """What can be asked for by name. Each gives `seconds`, and `output` or other results."""

    def __init__(self, path: str, n_threads: int) -> None:
        self._model = ryzanstein_llm.BitNetModel(path, n_threads=n_threads)
        self._threads = n_threads
        random = np.random.default_rng(0)
        self._prompt: list[int] = random.integers(2, self._model.vocab_size, 4096).tolist()

    def about(self, _: int, turn: int) -> Answer:
        version = ryzanstein_llm.__version__
        return {"version": version, "tier": ryzanstein_llm.cpu_info()["tier"], "seconds": 0.0}

    def prompt(self, tokens: int, turn: int) -> Answer:
        """The last logits of a prompt that no turn before had."""
        ids = [2 + turn, *self._prompt[: tokens - 1]]
        start = time.perf_counter()
        logits = self._model.forward(ids, logits="last")
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "output": hashlib.sha256(logits.tobytes()).hexdigest()}

    def sequences(self, count: int, turn: int) -> Answer:
        """16 tokens of each of `count` sequences at once, with prompts of one token."""
        ids: list[list[int]] = [[] for _ in range(count)]

        def work(index: int) -> None:
            first = (2 + count * turn + index) % self._model.vocab_size
            with self._model.session() as session:
                ids[index] = session.generate(
                    [first], max_tokens=16, ignore_eos=True, return_result=True
                ).ids

        threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"seconds": time.perf_counter() - start, "output": ids}

    def products(self, tokens: int, turn: int) -> Answer:
        """The products of a prompt alone, and what the machine's int8 peak is at that moment."""
        rounds = 1000
        while (once := limits.multiply_seconds(rounds, 1)[0]) < 0.02:
            rounds *= 4
        seconds, amount = limits.multiply_seconds(int(rounds * 0.15 / once) + 1, self._threads)
        with self._model.profile() as profile:
            self._model.forward([2 + turn, *self._prompt[: tokens - 1]], logits="last")
        found = [each for each in profile.prompt.operations if each.name in PRODUCTS]
        spent = sum(each.seconds for each in found)
        return {
            "seconds": spent,
            "share": sum(each.multiply_adds for each in found) / spent / (amount / seconds),
            "peak": amount / seconds,
        }


def main() -> None:
    measurements = Measurements(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        name, size, turn = json.loads(line)
        sys.stdout.write(json.dumps(getattr(measurements, name)(size, turn)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
