"""`ryzanstein-llm generate`: continue a text."""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .command import Command, exclude, integer, option
from .console import say, write
from .model import model_options, open_model
from .overflow import overflow_option
from .prompt import read_prompt
from .sampling import RANDOM, SEED, sampling_fields, sampling_options

if TYPE_CHECKING:
    from .. import BitNetModel, GenerationResult
    from ..profiling import Profile
    from ..sampling import SamplingParams

__all__ = ["command"]

MAX_TOKENS = 200
UNLIMITED = -1

HELP = f"""\
Continue PROMPT, and print both as one text while it is computed.

Without PROMPT, -p or -f, the prompt is read from a pipe.

Sampling options that you do not give are taken from the checkpoint's generation_config.json. The
seed is {SEED} unless you give another, so the same command prints the same text again.
"""
EPILOG = "llama.cpp's --n-predict, --ctx-size, --temp and --repeat-penalty work as well."


@click.command("generate", cls=Command, short_help="continue a text", help=HELP, epilog=EPILOG)
@click.argument("words", metavar="[PROMPT]", nargs=-1)
@option("-p", "--prompt", "text", metavar="TEXT", section="Prompt", help="instead of PROMPT")
@option(
    "-f",
    "--file",
    type=click.Path(),
    metavar="PATH",
    section="Prompt",
    help="read the prompt from a file; - is standard input, also as PROMPT",
)
@option(
    "-n",
    "--max-tokens",
    "--n-predict",
    type=integer,
    default=MAX_TOKENS,
    metavar="N",
    section="Output",
    help=f"tokens to add at most (default: {MAX_TOKENS}); {UNLIMITED}: until the context is full",
)
@option(
    "--stop",
    multiple=True,
    metavar="TEXT",
    section="Output",
    help="end before TEXT; may be given several times",
)
@overflow_option(
    "Output",
    "when the context is full: error (default; a text ends there), truncate (leave out the "
    "oldest of the prompt), or shift (drop the older half and go on)",
)
@option(
    "--prompt-lookup-num-tokens",
    type=integer,
    metavar="N",
    section="Output",
    help="guess at most N tokens at a time from the text before, which changes only the time "
    "(default: 15 for large models); 0: none",
)
@option(
    "--json",
    "as_json",
    is_flag=True,
    section="Output",
    help="one JSON object at the end instead of text",
)
@option(
    "--profile",
    is_flag=True,
    section="Output",
    help="show on standard error where the time went, by operation",
)
@sampling_options
@model_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    exclude(context, "temperature", "greedy")
    prompt = read_prompt(context, given["words"], given["text"], given["file"])
    stop = list(given["stop"])
    options = sampling_fields(given)
    max_tokens = _check(given["max_tokens"], stop, options)
    own = {name: given[name] for name in ("overflow", "prompt_lookup_num_tokens")}
    _check_own(own)
    with open_model(given) as model:
        from ..sampling import SamplingParams

        sampling = SamplingParams.from_checkpoint(model, **options)
        stream = model.stream(prompt, max_tokens=max_tokens, sampling=sampling, stop=stop, **own)
        with contextlib.ExitStack() as stack:
            profile = stack.enter_context(model.profile()) if given["profile"] else None
            pieces = stack.enter_context(contextlib.closing(stream))
            # Nothing is printed before the first piece, because the prompt may still be refused.
            first = next(pieces, "")
            if given["seed"] == RANDOM:
                say(f"seed {options['seed']}")
            if given["as_json"]:
                collections.deque(pieces, maxlen=0)
            else:
                _print(prompt, first, pieces)
        if given["as_json"]:
            import json

            facts = _facts(model, prompt, stream.result, sampling, profile)
            write(json.dumps(facts) + "\n")
        elif profile is not None:
            sys.stderr.write(f"\n{profile.text()}")
    return 0


def _check(max_tokens: int, stop: list[str], options: Mapping[str, Any]) -> int | None:
    """Check everything that can be checked before a model is loaded. Returns the largest number of
    tokens, or None for no limit."""
    from ..sampling import SamplingParams
    from ..text.stop_strings import StopStrings
    from ..validation import check_int

    StopStrings(stop)
    SamplingParams(**options)
    check_int("max_tokens", max_tokens, UNLIMITED, 1 << 31)
    return None if max_tokens == UNLIMITED else max_tokens


def _check_own(options: Mapping[str, Any]) -> None:
    from ..options import GenerationOptions

    GenerationOptions(**options)


def _print(prompt: str, first: str, pieces: Iterator[str]) -> None:
    last = first
    write(prompt + first)
    try:
        for piece in pieces:
            write(piece)
            last = piece or last
    finally:
        if not (last or prompt).endswith("\n"):
            write("\n")


def _facts(
    model: BitNetModel,
    prompt: str,
    result: GenerationResult,
    sampling: SamplingParams,
    profile: Profile | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    timings = result.timings
    chosen = asdict(sampling)
    facts = {
        "model": str(model.path),
        "prompt": prompt,
        "text": result.text,
        "ids": result.ids,
        "finish_reason": result.finish_reason,
        "usage": result.usage,
        "drafted_tokens": result.drafted_tokens,
        "accepted_tokens": result.accepted_tokens,
        "dropped_tokens": result.dropped_tokens,
        "timings": asdict(timings) | {"tokens_per_second": timings.tokens_per_second},
        "seed": chosen.pop("seed"),
        "sampling": chosen,
    }
    return facts if profile is None else facts | {"profile": profile.to_dict()}
