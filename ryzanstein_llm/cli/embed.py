"""`ryzanstein-llm embed`: one vector for each text."""

from __future__ import annotations

from typing import Any

import click

from .command import Command, integer, option
from .console import write
from .model import model_options, open_model
from .prompt import read_texts

__all__ = ["command"]

POOLINGS = ("mean", "cls", "last")

HELP = """\
Print one JSON object for each TEXT: {"text": ..., "embedding": [...]}.

Without TEXT or -f, each line of a pipe is a text.
"""


@click.command("embed", cls=Command, short_help="turn texts into vectors", help=HELP)
@click.argument("words", metavar="[TEXT ...]", nargs=-1)
@option(
    "-f",
    "--file",
    type=click.Path(),
    metavar="PATH",
    section="Texts",
    help="read a text from each line of a file; - is standard input, also as TEXT",
)
@option(
    "--prompt",
    metavar="TEXT",
    section="Texts",
    help="put TEXT, or the checkpoint's prompt of this name, such as query, in front of each text",
)
@option(
    "--truncate",
    is_flag=True,
    section="Texts",
    help="cut off the end of a text that is longer than the context",
)
@option(
    "--pooling",
    metavar="KIND",
    section="Vectors",
    shell_complete=lambda context, param, begin: [p for p in POOLINGS if p.startswith(begin)],
    help="mean, cls or last (default: what the checkpoint says, else mean)",
)
@option(
    "--truncate-dim",
    type=integer,
    metavar="N",
    section="Vectors",
    help="keep only the first N numbers of a vector",
)
@option("--no-normalize", is_flag=True, section="Vectors", help="do not scale vectors to length 1")
@option(
    "--batch-size",
    type=integer,
    metavar="N",
    section="Vectors",
    help="texts that are computed together at most; changes no result",
)
@model_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    texts = read_texts(context, given["words"], given["file"])
    size = {} if given["batch_size"] is None else {"batch_size": given["batch_size"]}
    with open_model(given) as model:
        vectors = model.embed(
            texts,
            prompt=given["prompt"],
            normalize=not given["no_normalize"],
            truncate_dim=given["truncate_dim"],
            pooling=given["pooling"],
            truncate=given["truncate"],
            **size,
        )
    import json

    for text, vector in zip(texts, vectors, strict=True):
        # the shortest decimals that give the same float32
        numbers = [float(str(number)) for number in vector]
        write(json.dumps({"text": text, "embedding": numbers}, ensure_ascii=False) + "\n")
    return 0
