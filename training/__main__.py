"""`python -m training train TEXTS DIRECTORY` and `python -m training card DIRECTORY`"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ryzanstein_llm.cli.progress import ProgressBar
from ryzanstein_llm.errors import (
    CheckpointNotFoundError,
    InvalidParameterError,
    RyzansteinError,
)

from .settings import OPTIMIZERS, SHAPES, Budget, Settings, Shape

__all__ = ["main"]

DEFAULTS = Settings()
SIZES = [field.name for field in dataclasses.fields(Shape) if field.type == "int"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 130 for a run that was interrupted."""
    options = _parser().parse_args(arguments)
    try:
        with contextlib.closing(ProgressBar(sys.stderr)) as bar:
            status: int = options.run(options, bar)
    except (RyzansteinError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="from a folder of text files to a checkpoint",
        description="Train a BitNet b1.58 model on the .txt files of TEXTS. DIRECTORY gets all "
        "that comes of it, packed/ and bf16/ in the end. Ctrl-C saves the run; the same command "
        "goes on with it.",
    )
    train.add_argument("texts", type=Path, metavar="TEXTS")
    train.add_argument("directory", type=Path, metavar="DIRECTORY")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of training (default: 60)")
    budget.add_argument("--steps", type=int, help="instead of minutes")
    train.add_argument("--validation", metavar="FILE", help="of TEXTS, held out of training "
                       "(default: the end of every file)")  # fmt: skip
    train.add_argument("--from", dest="origin", type=Path, metavar="CHECKPOINT",
                       help="bf16/ of an earlier run: begin with its weights, tokenizer and sizes "
                       "(default: random weights)")  # fmt: skip
    train.add_argument("--shape", choices=SHAPES, help="sizes (default: 6m); singly:")
    for name in SIZES:
        train.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    for name, text in (
        ("rows", "of the context's length in a batch"),
        ("accumulate", "batches in a step"),
        ("first_parts", "into how many rows each is cut in the first half of the run"),
        ("learning_rate", "peak of the first half"),
        ("second_learning_rate", "peak of the line of the second half (default: 2/3 of the first)"),
        ("weight_decay", "of the first half"),
        ("dropout", "for many passes over few texts"),
        ("seed", "of weights, batches and dropout"),
    ):
        default = getattr(DEFAULTS, name)
        shown = text if "default" in text else f"{text} (default: {default:g})"
        train.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=shown,
                           metavar="N" if isinstance(default, int) else "X")  # fmt: skip
    train.add_argument("--optimizer", choices=OPTIMIZERS, default=DEFAULTS.optimizer,
                       help=f"of the layers' matrices (default: {DEFAULTS.optimizer})")  # fmt: skip
    train.add_argument("--float", action="store_true", help="no quantisation: a teacher")
    train.add_argument("--teacher", type=Path, nargs="+", default=[], metavar="DIRECTORY",
                       help="finished runs whose probabilities are learnt")  # fmt: skip
    train.add_argument("--teacher-weight", type=float, metavar="X",
                       help=f"of the loss (default: {DEFAULTS.teacher_weight:g})")  # fmt: skip
    train.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    train.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    train.add_argument("--precision", choices=["auto", "bfloat16", "float32"], default="auto")
    train.add_argument("--no-compile", action="store_true", help="go without torch.compile")
    _add_card_options(train)
    train.set_defaults(run=_train)

    card = commands.add_parser(
        "card",
        help="measure a finished run with the library, and write its card",
        description="Measure packed/ of a finished run with the library; write its README.md and "
        "SAMPLES.md. `train` does so at its end.",
    )
    card.add_argument("directory", type=Path, metavar="DIRECTORY")
    _add_card_options(card)
    card.set_defaults(run=_card)
    return parser


def _add_card_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="of the model (default: that of DIRECTORY)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="the card's paragraph on data")
    parser.add_argument("--licence", type=Path, metavar="FILE", help="and that on licences")


def _settings(options: argparse.Namespace) -> Settings:
    def given(*names: str) -> dict[str, Any]:
        return {n: getattr(options, n) for n in names if getattr(options, n) is not None}

    minutes = 60.0 if options.minutes is None and options.steps is None else options.minutes
    rates = given("learning_rate", "second_learning_rate")
    if "learning_rate" in rates:
        rates.setdefault("second_learning_rate", rates["learning_rate"] * 2 / 3)
    return Settings(
        shape=_shape(options, given(*SIZES)),
        budget=Budget(minutes, options.steps),
        origin=None if options.origin is None else str(options.origin.resolve()),
        ternary=not options.float,
        teachers=tuple(str(path.resolve()) for path in options.teacher),
        **rates,
        **given(
            "optimizer",
            "rows",
            "accumulate",
            "first_parts",
            "weight_decay",
            "dropout",
            "teacher_weight",
        ),
        **given("validation", "seed"),
    )


def _shape(options: argparse.Namespace, sizes: dict[str, int]) -> Shape:
    if options.origin is None:
        return dataclasses.replace(SHAPES[options.shape or "6m"], **sizes)
    if options.shape or sizes:
        given = ({"shape": options.shape} if options.shape else {}) | sizes
        chosen = (f"--{name.replace('_', '-')} {value}" for name, value in given.items())
        raise InvalidParameterError(
            f"{', '.join(chosen)}: with --from, sizes are those of {options.origin}"
        )
    from .directory import RunDirectory
    from .origin import read_shape

    # A run that has begun needs its origin no more.
    with contextlib.suppress(CheckpointNotFoundError):
        begun = RunDirectory(options.directory).settings()
        if begun.origin == str(options.origin.resolve()):
            return begun.shape
    return read_shape(options.origin)


def _train(options: argparse.Namespace, bar: ProgressBar) -> int:
    settings = _settings(options)
    import torch

    from .machine import choose_machine
    from .run import train

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    machine = choose_machine(
        options.device, options.precision, False if options.no_compile else None
    )

    def report(line: str) -> None:
        bar.close()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with interrupts() as asked:
        finished = train(
            options.texts,
            options.directory,
            settings,
            machine,
            progress=lambda share, what: bar.update(int(share * 1000), 1000, what),
            report=report,
            stop=lambda steps: bool(asked),
        )
    if not finished:
        return 130
    return _card(options, bar) if settings.ternary else 0


def _card(options: argparse.Namespace, bar: ProgressBar) -> int:
    from . import card
    from .directory import RunDirectory

    written = {
        name: getattr(options, name).read_text(encoding="utf-8").strip()
        for name in ("data", "licence")
        if getattr(options, name) is not None
    }
    directory = RunDirectory(options.directory)
    found = card.write_card(
        directory,
        options.name or options.directory.resolve().name,
        progress=lambda share, what: bar.update(int(share * 1000), 1000, what),
        **written,
    )
    bar.close()
    sys.stdout.write(
        f"{directory.packed}: {found['bits_per_byte']:.4f} bits a byte with the library\n"
    )
    return 0


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Signals that came, SIGINT or SIGTERM; a second one ends the process as usual."""
    asked: list[int] = []
    former: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, former[signal.Signals(number)])

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
