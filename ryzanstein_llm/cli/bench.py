"""`ryzanstein-llm bench`: speed against the limits of this machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from .command import Command, exclude, integer, option, spellings, verbose_option
from .console import write
from .model import (
    cache_option,
    format_option,
    kv_option,
    model_path,
    path_option,
    revision_option,
)
from .progress import ProgressBar

__all__ = ["command"]

SPARSE_GATES = 0.2
MEASURED = "What is measured"

HELP = """\
Measure memory bandwidth, int8 peak, decoding (greedy, sampled, with changed logits), prompts,
several sequences in one pass, load time and memory, interleaved in one run. The outputs of all
settings and of the scalar tier are compared. If one differs, no figures are shown, and the exit
code is 1.
"""


def _names(text: str) -> tuple[str, ...]:
    """Of an option with several values, which llama-bench writes with commas between them."""
    return tuple(text.split(","))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(integer, _names(text)))


def _each(given: Iterable[tuple[Any, ...]]) -> list[Any] | None:
    """All values of such an option; None if it was not given."""
    return list(itertools.chain.from_iterable(given)) or None


@click.command(
    "bench",
    cls=Command,
    short_help="measure speed against the limits of this machine",
    help=HELP,
)
@path_option
@revision_option
@option(
    "--preset",
    metavar="NAME",
    section="Model",
    help="random weights in the shapes of this model, such as bitnet-b1.58-2B-4T, "
    "Ternary-Bonsai-1.7B or tiny; a wrong name lists all",
)
@option(
    "--sparse",
    "sparse_gates",
    is_flag=True,
    section="Model",
    help=f"with --preset: weights that make about {SPARSE_GATES:.0%} of gates positive",
)
@option(
    "--keep",
    type=click.Path(),
    metavar="DIR",
    section="Model",
    help="with --preset: write the weights to DIR, and keep them",
)
@kv_option
@format_option
@cache_option
@option(
    "-t",
    "--threads",
    "n_threads",
    type=_integers,
    several=True,
    metavar="N...",
    section=MEASURED,
    help="numbers of threads (default: as for other commands)",
)
@option(
    "--tiers",
    type=_names,
    several=True,
    metavar="TIER...",
    section=MEASURED,
    help="kernel tiers that info lists, or all (not scalar, which checks the others; default: the "
    "one in use). They read weights in the format that suits the tier in use; RYZANSTEIN_ISA "
    "measures another tier with its own format",
)
@option(
    "--contexts",
    "--n-depth",
    "contexts",
    type=_integers,
    several=True,
    metavar="N...",
    section=MEASURED,
    help="positions in the cache when decoding begins (default: 16, 1024 and nearly all)",
)
@option(
    "--prefill",
    "--n-prompt",
    "prefill",
    type=_integers,
    several=True,
    metavar="N...",
    section=MEASURED,
    help="lengths of prompts (default: 32, 128, 512)",
)
@option(
    "--batches",
    type=_integers,
    several=True,
    metavar="N...",
    section=MEASURED,
    help="sequences in one pass (default: 1, 2, 4, 8, 16)",
)
@option(
    "--sampled",
    type=_names,
    several=True,
    metavar="NAME...",
    section=MEASURED,
    help="requests beside greedy ones: top-p, temperature, repetition-penalty, logit-bias, "
    "logprobs, or none (default: all)",
)
@option(
    "-r",
    "--repetitions",
    type=integer,
    metavar="N",
    section=MEASURED,
    help="rounds (default: 5)",
)
@option("--quick", is_flag=True, section=MEASURED, help="a short run, to try the benchmark")
@option(
    "--no-scalar-check",
    is_flag=True,
    section=MEASURED,
    help="do not compare with the scalar tier",
)
@option("--json", "as_json", is_flag=True, help="one JSON object with all repetitions")
@verbose_option
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    exclude(context, "path", "preset")
    for name in ("sparse_gates", "keep"):
        if name in spellings(context) and given["preset"] is None:
            raise click.UsageError(f"{spellings(context)[name]} needs --preset", context)
    import json

    from .. import bench

    with (
        contextlib.closing(ProgressBar(sys.stderr)) as bar,
        model_path(given, bar.update) as path,
    ):
        report = bench.run(
            None if path is None else os.fspath(path),
            preset=given["preset"],
            sparse_gates=SPARSE_GATES if given["sparse_gates"] else None,
            keep=given["keep"],
            n_threads=_each(given["n_threads"]),
            tiers=_each(given["tiers"]),
            kv_dtype=given["kv_dtype"],
            weight_format=given["weight_format"],
            contexts=_each(given["contexts"]),
            prefill=_each(given["prefill"]),
            batches=_each(given["batches"]),
            sampled=_each(given["sampled"]),
            repetitions=given["repetitions"],
            quick=given["quick"],
            scalar_check=not given["no_scalar_check"],
            packed_cache=not given["no_cache"],
            progress=bar.update,
        )
    write(json.dumps(report.to_dict()) + "\n" if given["as_json"] else report.text())
    return 0
