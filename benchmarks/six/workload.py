"""A process that does one thing many times, for tools that look at processes:

    python -m benchmarks.six.workload --kind decode --amount 64 [--model PATH] [--threads N]

Opens the model, warms up, and computes: `--amount` tokens one after another, or as a prompt.
Counters of `perf stat --control` are on only meanwhile. Prints what it did as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.bench.cases import Decode, Measured, Prefill, Sequences
from ryzanstein_llm.bench.measured_engine import MeasuredEngine
from ryzanstein_llm.kernels import cpu

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    with BitNetModel(options.model, n_threads=options.threads) as model:
        engine = MeasuredEngine(model.engine, model.n_threads)
        case: Decode | Prefill
        if options.kind == "decode":
            case = Decode(Sequences(model, options.context), options.amount)
        else:
            case = Prefill(model, options.amount)
        for _ in range(options.warm_up):
            case.measure(engine, model.n_threads)
        found: list[Measured] = []
        with _counting(options.control):
            start = time.perf_counter()
            for _ in range(options.repetitions):
                found.append(case.measure(engine, model.n_threads))
            seconds = time.perf_counter() - start
        result = {
            "kind": options.kind,
            "tokens": sum(measured.amount for measured in found),
            "seconds": seconds,
            "tier": cpu.current_tier(),
            "threads": model.n_threads,
            "features": list(cpu.features()),
        }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


@contextlib.contextmanager
def _counting(control: list[Path] | None) -> Iterator[None]:
    """perf's counters are on within; see `--control` in perf-stat(1)."""
    if control is None:
        yield
        return
    orders, answers = control
    with orders.open("wb", buffering=0) as out, answers.open("rb", buffering=0) as back:

        def say(order: bytes) -> None:
            out.write(order + b"\n")
            back.read(4)  # "ack\n"

        say(b"enable")
        yield
        say(b"disable")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.six.workload")
    parser.add_argument("--model", metavar="PATH")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--kind", choices=("decode", "prefill"), default="decode")
    parser.add_argument("--amount", type=int, default=32, metavar="N", help="tokens")
    parser.add_argument("--context", type=int, default=16, metavar="N", help="before decoding")
    parser.add_argument("--repetitions", type=int, default=1, metavar="N")
    parser.add_argument("--warm-up", type=int, default=1, metavar="N", help="repetitions before")
    parser.add_argument("--control", type=Path, nargs=2, metavar="FIFO", help="orders, answers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
