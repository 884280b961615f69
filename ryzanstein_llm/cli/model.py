"""Shared by commands: options that name a model, and opening it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .command import integer, option, verbose_option
from .progress import ProgressBar

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = ["cache_option", "format_option", "kv_option", "model_options", "open_model"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SECTION = "Model"
KV_KINDS = ("float32", "bfloat16", "int8")
FORMATS = ("2bit", "1.6bit", "table")


def model_options(function: Decorated) -> Decorated:
    """Options for what `open_model` opens, and `--verbose`."""
    for decorate in reversed(
        (
            path_option,
            option(
                "-t",
                "--threads",
                "n_threads",
                type=integer,
                metavar="N",
                section=SECTION,
                help="threads to use (default: OMP_NUM_THREADS, else what suits this machine and "
                "the size of the model)",
            ),
            option(
                "-c",
                "--context-length",
                "--ctx-size",
                "context_length",
                type=integer,
                metavar="N",
                section=SECTION,
                help="most tokens of a text, prompt included (default: the model's)",
            ),
            kv_option,
            format_option,
            cache_option,
            verbose_option,
        )
    ):
        function = decorate(function)
    return function


path_option = option(
    "-m",
    "--model",
    "path",
    type=click.Path(),
    metavar="PATH",
    section=SECTION,
    help="a .safetensors file or a checkpoint directory (default: the built-in demo model)",
)

kv_option = option(
    "--kv-dtype",
    metavar="KIND",
    section=SECTION,
    shell_complete=lambda context, param, begin: [k for k in KV_KINDS if k.startswith(begin)],
    help="how keys and values are kept: float32, bfloat16 (default) or int8",
)

format_option = option(
    "--weight-format",
    metavar="FORMAT",
    section=SECTION,
    shell_complete=lambda context, param, begin: [f for f in FORMATS if f.startswith(begin)],
    help="how ternary weights are kept in memory: 2bit, 1.6bit or table "
    "(default: the fastest on this CPU; 2bit for small models)",
)

cache_option = option(
    "--no-cache",
    is_flag=True,
    section=SECTION,
    help="do not use or keep packed weights on disk (see the command cache)",
)


@contextlib.contextmanager
def open_model(given: Mapping[str, Any]) -> Iterator[BitNetModel]:
    """Open the model that the values of `model_options` name, with a progress bar, and close it at
    the end of the `with` block."""
    import ryzanstein_llm

    with contextlib.closing(ProgressBar(sys.stderr)) as bar:
        model = ryzanstein_llm.BitNetModel(
            given["path"],
            n_threads=given["n_threads"],
            context_length=given["context_length"],
            kv_dtype=given["kv_dtype"],
            weight_format=given["weight_format"],
            packed_cache=not given["no_cache"],
            progress=bar.update,
        )
    with model:
        yield model
