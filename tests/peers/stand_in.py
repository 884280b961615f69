"""A worker without an engine, for tests of the driver: `stand_in.py '{"name": value, ...}'`.

It computes logits from the last token by a rule, so that two of them agree; the options make it
misbehave.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.peers.protocol import Float32, serve

VOCAB = 50


class StandIn:
    """
    Parameters
    ----------
    rate : float
        Tokens a second that it says it has.
    nap : float
        Seconds that it really takes for a request.
    log : str or None
        A file to which it adds a line for each request: its name, what, how many ids, threads.
    spoil : str or None
        "logits", "token", "change", "busy", "refuse", "die", "raise", "print"
    """

    def __init__(
        self,
        name: str,
        rate: float = 100.0,
        nap: float = 0.0,
        log: str | None = None,
        spoil: str | None = None,
    ) -> None:
        if spoil == "refuse":
            raise ValueError("no such model")
        self.name, self.rate, self.nap, self.log, self.spoil = name, rate, nap, log, spoil
        self.about: Mapping[str, Any] = {"versions": {"stand-in": "1"}, "model": "none"}
        self.vocab_size = VOCAB
        self.also: Mapping[str, Callable[..., Mapping[str, Any]]] = {
            "check": lambda threads: {"check": {"tokens": [1, 2], "threads": threads}},
            "limits": lambda threads: {"limits": {"read": 1e9 * threads, "multiply": 2e9}},
        }
        self.calls = 0
        if spoil == "busy":
            threading.Thread(target=spin, daemon=True).start()

    def prefill(self, ids: list[int], threads: int) -> tuple[float, Float32]:
        self.note("prefill", ids, threads)
        return len(ids) / self.rate, self.logits(ids)

    def decode(self, ids: list[int], tokens: int, threads: int) -> tuple[float, list[int], Float32]:
        self.note("decode", ids, threads)
        sequence = list(ids)
        for _ in range(tokens + 1):
            logits = self.logits(sequence)
            sequence.append(int(logits.argmax()))
        if self.spoil == "token":
            sequence[-1] = (sequence[-1] + 1) % VOCAB
        return tokens / self.rate, sequence[len(ids) :], logits

    def logits(self, ids: list[int]) -> Float32:
        values = np.random.default_rng(sum(ids)).standard_normal(VOCAB).astype(np.float32)
        if self.spoil == "logits":
            values[:25] *= -1
        if self.spoil == "change" and self.calls > 2:
            values[0] += np.float32(1e-6)
        return values

    def note(self, what: str, ids: list[int], threads: int) -> None:
        self.calls += 1
        time.sleep(self.nap)
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{self.name} {what} {len(ids)} {threads}\n")
        if self.spoil == "die":
            sys.stderr.write("out of something\n")
            sys.stderr.flush()
            os._exit(3)
        if self.spoil == "raise":
            raise RuntimeError("not today")
        if self.spoil == "print":
            os.write(1, b"hello\n")


def spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    serve(lambda: StandIn(**json.loads(sys.argv[1])))
