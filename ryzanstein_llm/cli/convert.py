"""`ryzanstein-llm convert`: a model in another file format, without a change of any weight."""

from __future__ import annotations

import contextlib
import sys

import click

from .command import Command, integer, option, verbose_option
from .console import write
from .model import model_path, revision_option
from .progress import ProgressBar

__all__ = ["command"]

TARGETS = ("safetensors", "tq2_0", "i2_s")

HELP = """Write the model SRC as DST in another format. Its logits stay the same, bit for bit; what
a format cannot hold exactly is refused. The tokenizer, the chat template and the sampling defaults
go along.

safetensors is a folder as transformers reads it: packed weights, or float16 for models with scales
for groups of columns. tq2_0 is a GGUF file for llama.cpp, with a scale for each 256 weights. i2_s
is one for bitnet.cpp, with one scale for each matrix.
"""


@click.command("convert", cls=Command, short_help="write a model in another format", help=HELP)
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@option(
    "--to",
    metavar="FORMAT",
    shell_complete=lambda context, param, begin: [t for t in TARGETS if t.startswith(begin)],
    help="safetensors, tq2_0 or i2_s (default: what fits the model, for a DST that ends in .gguf; "
    "safetensors for others)",
)
@option("--without-tokenizer", is_flag=True, help="leave the tokenizer out: the result takes ids")
@option("-t", "--threads", "n_threads", type=integer, metavar="N", help="threads to use")
@revision_option
@verbose_option
def command(
    src: str,
    dst: str,
    to: str | None,
    without_tokenizer: bool,
    n_threads: int | None,
    revision: str | None,
) -> int:
    from ..conversion import convert

    with (
        contextlib.closing(ProgressBar(sys.stderr)) as bar,
        model_path({"path": src, "revision": revision}, bar.update) as path,
    ):
        convert(
            path,
            dst,
            to=to,
            tokenizer=not without_tokenizer,
            n_threads=n_threads,
            progress=bar.update,
        )
    write(f"{dst}\n")
    return 0
