"""`ryzanstein-llm bench`: speed against the limits of this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from .console import write
from .model import add_cache_option, add_format_option
from .progress import ProgressBar

__all__ = ["add_parser", "run"]

SPARSE_GATES = 0.2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure speed against the limits of this machine",
        description="Measure memory bandwidth and int8 peak, decoding, prompts, several sequences "
        "in one pass, load time and memory, interleaved in one run, and compare the outputs of "
        "all settings and of the scalar tier. Exit code 1, and no figures, if an output differs.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        metavar="PATH",
        help="a .safetensors file or a checkpoint directory (default: the built-in demo model)",
    )
    source.add_argument(
        "--preset",
        metavar="NAME",
        help="random weights in the shapes of this model: bitnet-b1.58-2B-4T, tales-6m or tiny",
    )
    parser.add_argument(
        "--sparse",
        action="store_true",
        help=f"with --preset: weights that make about {SPARSE_GATES:.0%} of gates positive".replace(
            "%", "%%"
        ),
    )
    parser.add_argument(
        "--keep", metavar="DIR", help="with --preset: write the weights here, and leave them"
    )
    several = (
        ("--threads", int, "N", "numbers of threads (default: as other commands choose)"),
        (
            "--tiers",
            str,
            "TIER",
            "kernel tiers, as info lists them, on weights kept as the tier in use likes them "
            "(default: that one; RYZANSTEIN_ISA measures another with what it likes)",
        ),
        (
            "--contexts",
            int,
            "N",
            "positions in the cache when decoding begins (default: 16, 1024 and nearly all)",
        ),
        ("--prefill", int, "N", "lengths of prompts (default: 32, 128, 512)"),
        ("--batches", int, "N", "sequences in one pass (default: 1, 2, 4, 8, 16)"),
    )
    for name, kind, metavar, text in several:
        parser.add_argument(name, type=kind, nargs="+", metavar=metavar, help=text)
    parser.add_argument("--kv-dtype", metavar="KIND", help="float32, bfloat16 (default) or int8")
    parser.add_argument("--repetitions", type=int, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="try the benchmark, not the machine")
    parser.add_argument(
        "--no-scalar-check", action="store_true", help="do not compare with the scalar tier"
    )
    add_format_option(parser)
    add_cache_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object with all repetitions")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show what is done")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from .. import bench

    with contextlib.closing(ProgressBar(sys.stderr)) as bar:
        report = bench.run(
            arguments.model,
            preset=arguments.preset,
            sparse_gates=SPARSE_GATES if arguments.sparse else None,
            keep=arguments.keep,
            n_threads=arguments.threads,
            tiers=arguments.tiers,
            kv_dtype=arguments.kv_dtype,
            weight_format=arguments.weight_format,
            contexts=arguments.contexts,
            prefill=arguments.prefill,
            batches=arguments.batches,
            repetitions=arguments.repetitions,
            quick=arguments.quick,
            scalar_check=not arguments.no_scalar_check,
            packed_cache=arguments.packed_cache,
            progress=bar.update,
        )
    write(json.dumps(report.to_dict()) + "\n" if arguments.json else report.text())
    return 0
