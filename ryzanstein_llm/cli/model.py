"""Shared by commands: options that name a model, and opening it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import (
    CheckpointNotFoundError,
    HubAccessError,
    HubConnectionError,
    HubNotFoundError,
    InvalidParameterError,
    MissingExtraError,
    TokenizerMissingError,
)
from .command import integer, option, verbose_option
from .progress import ProgressBar

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = [
    "DEMO_NAME",
    "cache_option",
    "format_option",
    "kv_option",
    "model_options",
    "model_path",
    "open_model",
    "path_option",
    "revision_option",
    "threads_option",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SECTION = "Model"

DEMO_NAME = ":demo:"
"""The built-in demo model. A file of this name is `./:demo:`."""

KV_KINDS = ("float32", "bfloat16", "int8")
FORMATS = ("2bit", "1.6bit", "table")


def model_options(function: Decorated) -> Decorated:
    """Options for what `open_model` opens, and `--verbose`."""
    for decorate in reversed(
        (
            path_option,
            revision_option,
            threads_option,
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
    help="a .safetensors or .gguf file, a checkpoint directory, or org/name or org/name:file.gguf "
    f"of the Hugging Face Hub (default: {DEMO_NAME}, the built-in demo model)",
)

revision_option = option(
    "--revision",
    metavar="REVISION",
    section=SECTION,
    help="of a repository: a branch, a tag or a commit (default: main)",
)

threads_option = option(
    "-t",
    "--threads",
    "n_threads",
    type=integer,
    metavar="N",
    section=SECTION,
    help="threads to use (default: OMP_NUM_THREADS, else what suits this machine and the size of "
    "the model)",
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

    with (
        contextlib.closing(ProgressBar(sys.stderr)) as bar,
        model_path(given, bar.update) as path,
    ):
        model = ryzanstein_llm.BitNetModel(
            path,
            n_threads=given["n_threads"],
            context_length=given["context_length"],
            kv_dtype=given["kv_dtype"],
            weight_format=given["weight_format"],
            packed_cache=not given["no_cache"],
            progress=bar.update,
        )
    with model:
        try:
            yield model
        except TokenizerMissingError as error:  # what the library advises is for programs
            raise TokenizerMissingError(
                f"{model.path}: there is no tokenizer.json, and this command reads and writes "
                "text; put the model's tokenizer.json beside the weights"
            ) from error


@contextlib.contextmanager
def model_path(
    given: Mapping[str, Any], progress: Callable[[int, int, str], None]
) -> Iterator[str | os.PathLike[str] | None]:
    """The path that the user gave; None for the demo model. If there is nothing, and it is like
    `org/name`, the path of that repository, which is downloaded when the body of the `with`
    statement asks for it."""
    path: str | None = given["path"]
    if path == DEMO_NAME:
        path = None
    elif path == DEMO_NAME.strip(":") and not os.path.lexists(path):
        raise CheckpointNotFoundError(
            f"no such file or directory: {path!r}; the built-in demo model is {DEMO_NAME}"
        )
    if path is None or os.path.lexists(path) or not _is_repository_name(path):
        if given["revision"] is not None:
            problem = "is for a repository of the hub, and the model is not one"
            raise InvalidParameterError(problem, "revision")
        yield path
        return
    from ..hub import HubPath, Repository

    try:
        yield HubPath(Repository.parse(path, given["revision"]), progress=progress)
    except (HubAccessError, HubConnectionError, HubNotFoundError, MissingExtraError) as error:
        raise type(error)(f"{error}; nor is there a file or directory {path!r}") from error


def _is_repository_name(path: str) -> bool:
    from ..hub import is_repository_name

    return is_repository_name(path)
