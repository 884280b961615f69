"""`ryzanstein-llm generate`: continue a text."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InvalidParameterError
from .console import write
from .model import add_model_options, open_model

if TYPE_CHECKING:
    from .. import BitNetModel
    from ..sampling import SamplingParams

__all__ = ["add_parser", "run"]

MAX_TOKENS = 200
SEED = 0

# values of SamplingParams
OPTIONS = (
    ("top_k", int, "K", "keep the K likeliest tokens"),
    ("top_p", float, "P", "keep the likeliest tokens that sum to P"),
    ("min_p", float, "P", "drop tokens below P times the likeliest"),
    ("typical_p", float, "P", "keep the tokens of most typical surprise that sum to P"),
    ("repetition_penalty", float, "X", "above 1: repeat tokens of prompt and output less"),
    ("presence_penalty", float, "X", "subtracted from the logits of generated tokens"),
    ("frequency_penalty", float, "X", "the same, for each time they occurred"),
)

DESCRIPTION = f"""\
Print PROMPT and its continuation, as it comes, so that the text reads whole.

Sampling follows the checkpoint's generation_config.json where no option says
otherwise. The seed is {SEED} unless --seed is given: the same command prints the
same text again.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="continue a text",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", help="text to continue, in quotes; - reads standard input"
    )
    add_model_options(parser)
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help="tokens to add at most; fewer where the context ends (default: %(default)s)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help="end before TEXT; may be given several times",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="then show on standard error where the time went, by operation",
    )
    sampling = parser.add_argument_group("sampling")
    heat = sampling.add_mutually_exclusive_group()
    heat.add_argument("--temperature", type=float, metavar="T", help="0 is greedy")
    heat.add_argument(
        "--greedy", action="store_true", help="always the likeliest token, like --temperature 0"
    )
    for name, kind, metavar, text in OPTIONS:
        option = f"--{name.replace('_', '-')}"
        sampling.add_argument(option, type=kind, metavar=metavar, help=text)
    sampling.add_argument(
        "--seed", type=int, default=SEED, metavar="S", help="(default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    prompt = _read_stdin() if arguments.prompt == "-" else arguments.prompt
    with open_model(arguments) as model:
        stream = model.stream(
            prompt,
            max_tokens=arguments.max_tokens,
            sampling=_sampling(model, arguments),
            stop=arguments.stop or [],
        )
        with contextlib.ExitStack() as stack:
            profile = stack.enter_context(model.profile()) if arguments.profile else None
            _print(prompt, stack.enter_context(contextlib.closing(stream)))
    if profile is not None:
        sys.stderr.write(f"\n{profile.text()}")
    return 0


def _print(prompt: str, pieces: Iterator[str]) -> None:
    # The prompt waits for the first piece: where it is refused, nothing is printed.
    last = first = next(pieces, "")
    write(prompt + first)
    try:
        for piece in pieces:
            write(piece)
            last = piece or last
    finally:
        if not (last or prompt).endswith("\n"):
            write("\n")


def _sampling(model: BitNetModel, arguments: argparse.Namespace) -> SamplingParams:
    from ..sampling import SamplingParams

    overrides: dict[str, Any] = {
        "temperature": 0.0 if arguments.greedy else arguments.temperature,
        **{name: getattr(arguments, name) for name, *_ in OPTIONS},
        "seed": arguments.seed,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    return SamplingParams.from_checkpoint(model, **given)


def _read_stdin() -> str:
    """Standard input as UTF-8, whatever the locale, without the newline that `echo` adds."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"standard input is not UTF-8: {error}") from None
