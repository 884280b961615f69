"""Many prompts in one call against one by one and against a thread for each, and the latency of an
event loop while tasks wait for a model. Texts are compared in the same run.

    python -m benchmarks.batch                       # the demo model
    python -m benchmarks.batch --model big --rounds 1
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ryzanstein_llm import BitNetModel

OPENINGS = (
    "Once upon a time there was", "The king said to his youngest son", "In the deep wood",
    "A fox and a bear went", "When the morning came, the miller", "There lived an old woman",
    "Far beyond the sea", "The three brothers",
)  # fmt: skip
TICK = 0.002
"""Seconds that the ticker of the event loop sleeps."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


OPTIONS: dict[str, Any] = {
    "ignore_eos": True,
    "prompt_lookup_num_tokens": 0,  # each token has a row of its own in a pass
}


def prompts(count: int) -> list[str]:
    """Prompts of which no two are equal."""
    return [f"{OPENINGS[i % len(OPENINGS)]} {i // len(OPENINGS)}" for i in range(count)]


def one_by_one(model: BitNetModel, given: list[str], new: int) -> list[str]:
    return [model.generate(each, max_tokens=new, **OPTIONS) for each in given]


def batch(model: BitNetModel, given: list[str], new: int) -> list[str]:
    return model.generate(given, max_tokens=new, **OPTIONS)


def threads(model: BitNetModel, given: list[str], new: int) -> list[str]:
    """A thread for each prompt."""
    found = [""] * len(given)

    def work(index: int) -> None:
        found[index] = model.generate(given[index], max_tokens=new, **OPTIONS)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(given))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


def tasks(model: BitNetModel, given: list[str], new: int) -> list[str]:
    """A task for each prompt, in one event loop."""

    async def work() -> list[str]:
        return await asyncio.gather(
            *(model.agenerate(each, max_tokens=new, **OPTIONS) for each in given)
        )

    return asyncio.run(work())


WAYS: tuple[Callable[[BitNetModel, list[str], int], list[str]], ...] = (
    one_by_one, batch, threads, tasks,
)  # fmt: skip


def compare(model: BitNetModel, count: int, new: int, rounds: int) -> None:
    """Print the seconds of each way, in alternating rounds."""
    given, seconds = prompts(count), {way: list[float]() for way in WAYS}
    expected = None
    batch(model, given, 1)  # warm
    for _ in range(rounds):
        for way in WAYS:
            model.engine.clear()
            start = time.perf_counter()
            found = way(model, given, new)
            seconds[way].append(time.perf_counter() - start)
            expected = expected or found
            if found != expected:
                raise SystemExit(f"{way.__name__} gives other texts, so its time means nothing")
    say(f"{count} prompts, {new} new tokens each, equal texts, median of {rounds}:")
    base = statistics.median(seconds[one_by_one])
    for way in WAYS:
        middle = statistics.median(seconds[way])
        rate = count * new / middle
        say(f"  {way.__name__:12} {middle:8.3f} s {rate:8.1f} tokens/s {base / middle:6.2f} x")


async def ticks(seconds: float | None, until: asyncio.Task[list[str]] | None) -> list[float]:
    """How much longer than TICK each tick of a loop took, in ms."""
    late, end = [], time.perf_counter() + (seconds or 0)
    while not until.done() if until is not None else time.perf_counter() < end:
        start = time.perf_counter()
        await asyncio.sleep(TICK)
        late.append(1e3 * (time.perf_counter() - start - TICK))
    return late


def latency(model: BitNetModel, count: int, new: int) -> None:
    """Print how late the ticks of an event loop are, without and with tasks that stream."""

    async def stream(prompt: str) -> str:
        pieces = model.astream(prompt, max_tokens=new, **OPTIONS)
        return "".join([piece async for piece in pieces])

    async def work() -> tuple[list[float], list[float], list[str]]:
        quiet = await ticks(2.0, None)
        streams = asyncio.ensure_future(asyncio.gather(*map(stream, prompts(count))))
        busy = await ticks(None, streams)  # type: ignore[arg-type]
        return quiet, busy, await streams

    quiet, busy, texts = asyncio.run(work())
    if texts != batch(model, prompts(count), new):
        raise SystemExit("streams give other texts, so their time means nothing")
    say(f"ticks of an event loop, ms late, alone and with {count} streams, equal texts:")
    for name, share in (("median", 50), ("95 %", 95), ("99 %", 99)):
        alone, beside = (statistics.quantiles(late, n=100)[share - 1] for late in (quiet, busy))
        say(f"  {name:8} {alone:8.3f} {beside:8.3f} {beside / alone:6.1f} x")
    say(f"  {'worst':8} {max(quiet):8.3f} {max(busy):8.3f} {max(busy) / max(quiet):6.1f} x")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--model", help="a checkpoint; default: the demo model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--new", type=int, default=64, help="new tokens of each prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-latency", action="store_true")
    return parser


def main(arguments: list[str]) -> None:
    given = _parser().parse_args(arguments)
    with BitNetModel(given.model, n_threads=given.threads) as model:
        say(f"{model.path.name}, {model.n_threads} threads, {model.info()['tier']}")
        compare(model, given.prompts, given.new, given.rounds)
        if not given.no_latency:
            latency(model, given.prompts, given.new * 4)


if __name__ == "__main__":
    main(sys.argv[1:])
