"""What the commands share: options that name a model, and opening it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .progress import ProgressBar

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = ["add_cache_option", "add_format_option", "add_model_options", "open_model"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options for what `open_model` opens, and `--verbose`."""
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a .safetensors file or a checkpoint directory (default: the built-in demo model)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads to use (default: OMP_NUM_THREADS, else what this machine offers)",
    )
    parser.add_argument(
        "--context-length",
        type=int,
        metavar="N",
        help="tokens that a text may have, prompt included (default: what the model has)",
    )
    parser.add_argument(
        "--kv-dtype",
        metavar="KIND",
        help="how keys and values are kept: float32, bfloat16 or int8 (default: bfloat16)",
    )
    add_format_option(parser)
    add_cache_option(parser)
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show what is done")


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """`--weight-format`."""
    parser.add_argument(
        "--weight-format",
        metavar="FORMAT",
        help="how ternary weights are kept in memory: 2bit, 1.6bit or table (default: what this "
        "CPU is fastest with)",
    )


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """`--no-cache`."""
    parser.add_argument(
        "--no-cache",
        dest="packed_cache",
        action="store_false",
        help="neither use nor keep packed weights on disk (see the command cache)",
    )


@contextlib.contextmanager
def open_model(arguments: argparse.Namespace) -> Iterator[BitNetModel]:
    """The model that the options name, with a progress bar while it loads; closed afterwards."""
    import ryzanstein_llm

    with contextlib.closing(ProgressBar(sys.stderr)) as bar:
        model = ryzanstein_llm.BitNetModel(
            arguments.model,
            n_threads=arguments.threads,
            context_length=arguments.context_length,
            kv_dtype=arguments.kv_dtype,
            weight_format=arguments.weight_format,
            packed_cache=arguments.packed_cache,
            progress=bar.update,
        )
    with model:
        yield model
