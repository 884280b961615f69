"""This version beside another one that a Python of its own has, in turns, on the same checkpoint:
prompts, sequences at once, one sequence, and the share of the int8 peak that products reach. The
outputs are compared in the same run.

    python -m venv before && before/bin/pip install ryzanstein_llm-2.0.0*.whl
    python -m benchmarks.versions big --other before/bin/python --threads 1 2
    python -m benchmarks.versions big --tier amx --other-tier avx512vnni  # two tiers
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["main"]

WORKER = Path(__file__).with_name("worker.py")
ROOT = WORKER.parents[2]
CASES = (
    ("prompt", 512),
    ("prompt", 128),
    *(("sequences", count) for count in (16, 8, 4, 2, 1)),
)
TITLES = {"prompt": "prompt of {} tokens", "sequences": "sequences at once: {}"}


class Side:
    """A process with one version and one tier."""

    def __init__(
        self, python: str, tier: str | None, own: bool, checkpoint: str, threads: int
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if own:
            environment["PYTHONPATH"] = str(ROOT)
        if tier:
            environment["RYZANSTEIN_ISA"] = tier
        self._process = subprocess.Popen(
            [python, str(WORKER), os.path.abspath(checkpoint), str(threads)],
            env=environment,
            cwd=WORKER.anchor,  # where no package lies
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        about = self.ask("about", 0, 0)
        self.name = f"{about['version']}, {about['tier']}"

    def ask(self, name: str, size: int, turn: int) -> dict[str, Any]:
        """Errors: RuntimeError if the process has ended."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        try:
            pipe.write(json.dumps([name, size, turn]) + "\n")
            pipe.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.close()
            raise RuntimeError(f"the process with {self._process.args!r} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process. May be called again."""
        with contextlib.suppress(ValueError):  # its pipes are closed already
            self._process.communicate()


def compare(new: Side, old: Side, case: tuple[str, int], rounds: int, first_turn: int) -> str:
    """A line with medians and the ratio of each round. RuntimeError if outputs differ."""
    name, size = case
    times: dict[Side, list[float]] = {new: [], old: []}
    title = TITLES[name].format(size)
    for turn in range(first_turn, first_turn + rounds + 1):
        order = (new, old) if turn % 2 else (old, new)
        answers = {side: side.ask(name, size, turn) for side in order}
        if answers[new]["output"] != answers[old]["output"]:
            raise RuntimeError(f"{title}: {new.name} and {old.name} give different outputs")
        if turn > first_turn:  # the first one warms up
            for side, answer in answers.items():
                times[side].append(answer["seconds"])
    ratios = [before / now for before, now in zip(times[old], times[new], strict=True)]
    seconds = "".join(f"{1e3 * median(times[side]):10.1f} ms" for side in (new, old))
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return f"{title:32}{seconds}{median(ratios):8.2f} x as fast {spread}"


def products(side: Side, size: int, rounds: int) -> str:
    answers = [side.ask("products", size, turn) for turn in range(rounds + 1)][1:]
    share, peak = (median(answer[key] for answer in answers) for key in ("share", "peak"))
    of_peak = f"{share:.2f} of the int8 peak of {1e-9 * peak:,.0f} GMAC/s"
    return f"products of {size} tokens: {of_peak} ({side.name})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    python = options.other or sys.executable
    try:
        for threads in options.threads:
            run(options, python, threads)
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run(options: argparse.Namespace, python: str, threads: int) -> None:
    """All cases on so many threads."""
    with contextlib.ExitStack() as stack:
        new = Side(sys.executable, options.tier, True, options.checkpoint, threads)
        stack.callback(new.close)
        own = python == sys.executable
        old = Side(python, options.other_tier, own, options.checkpoint, threads)
        stack.callback(old.close)
        say(f"{threads} thread{'' if threads == 1 else 's'}: {new.name} | {old.name}")
        for number, (name, size) in enumerate(CASES):
            size = min(size, options.most) if name == "prompt" else size
            say(compare(new, old, (name, size), options.rounds, 1000 * number))
        for side in (new, old):
            say(products(side, min(512, options.most), options.rounds))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versions",
        description="This version beside another one, or two tiers, in turns.",
    )
    parser.add_argument("checkpoint", help="a model that both versions can open")
    parser.add_argument(
        "--other", metavar="PYTHON", help="a Python with the other version (default: this one)"
    )
    parser.add_argument("--tier", help="RYZANSTEIN_ISA of this version")
    parser.add_argument("--other-tier", help="RYZANSTEIN_ISA of the other one")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=512, help="tokens of a prompt at most")
    return parser


if __name__ == "__main__":
    sys.exit(main())
