"""`python -m benchmarks.history add | check | show | machines`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ryzanstein_llm.text_table import aligned

from .check import MOST_LOST, compare
from .entries import FOLDER, Entry, FormatError, load_entries, read_run, save
from .machines import last_of_each, table_of_machines

__all__ = ["COLUMNS", "figure_of", "main", "table"]

# title, benchmark, figure, factor, digits
COLUMNS = (
    ("ms a token", "test_single_token_latency", "seconds", 1e3, 2),
    ("of bandwidth", "test_single_token_latency", "mbu", 1, 3),
    ("x baseline", "test_single_token_latency", "times_baseline", 1, 1),
    ("tokens/s", "test_generation_of_fifty_tokens", "tokens_per_second", 1, 1),
    ("prompt tokens/s", "test_prefill_and_decode_on", "prefill_tokens_per_second", 1, 0),
    ("of int8 peak", "test_prefill_and_decode_on", "fraction_of_peak", 1, 3),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (FormatError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return status


def _add(options: argparse.Namespace) -> int:
    path = save(read_run(options.file), options.folder)
    sys.stdout.write(f"{path}\n")
    return 0


def _check(options: argparse.Namespace) -> int:
    found = compare(read_run(options.file), load_entries(options.folder), options.most_lost / 100)
    sys.stdout.write("".join(finding.line() + "\n" for finding in found))
    worse = sum(finding.bad for finding in found)
    if not found:
        sys.stdout.write("nothing to compare: no kept run of this model on this CPU\n")
    else:
        sys.stdout.write(f"{len(found)} figures compared, {worse} worse\n")
    return 1 if worse else 0


def _show(options: argparse.Namespace) -> int:
    sys.stdout.write(table(load_entries(options.folder)))
    return 0


def _machines(options: argparse.Namespace) -> int:
    folders = [options.folder, *options.others]
    entries = [entry for folder in folders for entry in load_entries(folder)]
    found = last_of_each(entries)
    if not found:
        sys.stdout.write("nothing to compare: no kept run says its shares of the limits\n")
        return 0
    sys.stdout.write(f"{found[-1].model}, each machine by the limits of its own run\n")
    sys.stdout.write(aligned(table_of_machines(found)))
    return 0


def table(entries: Sequence[Entry]) -> str:
    """One line a run; of threads, the most that were measured."""
    lines = [["date", "commit", "model", "CPU", *(column[0] for column in COLUMNS)]]
    for entry in entries:
        line = [
            entry.date[:10], (entry.commit or "unknown")[:7], entry.model,
            str(entry.machine.get("cpu")),
        ]  # fmt: skip
        for _, benchmark, figure, factor, digits in COLUMNS:
            value = figure_of(entry, benchmark, figure)
            line.append("" if value is None else f"{factor * value:.{digits}f}")
        lines.append(line)
    return aligned(lines)


def figure_of(entry: Entry, benchmark: str, figure: str) -> Any:
    """Of the benchmark of this name, or of the last of those with a number after it."""
    names = [name for name in entry.results if name.partition("[")[0] == benchmark]
    found = sorted(names, key=lambda name: int("0" + "".join(filter(str.isdigit, name))))
    return entry.results[found[-1]].get(figure) if found else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where runs are kept (default: the repository)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("add", help="keep a run")
    add.set_defaults(run=_add)
    check = commands.add_parser(
        "check",
        help="compare a run with those that are kept",
        description="Compares shares of the limits that each run measured, never times, with the "
        "median of the last kept runs of the same model, CPU, tier and threads. Exit code 1 if "
        "one lost more than is allowed, or if bits of logits or perplexity changed.",
    )
    check.add_argument(
        "--most-lost", type=float, default=100 * MOST_LOST, metavar="PERCENT",
        help="(default: %(default)g)",
    )  # fmt: skip
    check.set_defaults(run=_check)
    for command in (add, check):
        command.add_argument("file", type=Path, help="of --benchmark-json or --benchmark-autosave")
    commands.add_parser("show", help="a table of all runs").set_defaults(run=_show)
    machines = commands.add_parser(
        "machines",
        help="machines of different kinds, each by its own limits",
        description="The last run of each CPU: what its limits are, and what each benchmark "
        "reached of them. Only runs of the same model as the last one.",
    )
    machines.add_argument(
        "others", type=Path, nargs="*", metavar="FOLDER", help="histories beside the first"
    )
    machines.set_defaults(run=_machines)
    return parser


if __name__ == "__main__":
    sys.exit(main())
