"""`python -m training train TEXTS DIRECTORY` and `python -m training card DIRECTORY`

Exit codes: 0 done; 2 bad input or something missing, one line on standard error, before any
training; 130 interrupted, with the run saved.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from ryzanstein_llm.errors import (
    CheckpointNotFoundError,
    InvalidParameterError,
    RyzansteinError,
)

from . import suggestions
from .command import SIZES, parser
from .installed import check_installed
from .prompts import read_prompts
from .settings import SHAPES, Budget, Settings, Shape

if TYPE_CHECKING:
    from ryzanstein_llm.cli.progress import ProgressBar

    from .card import CardTexts

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(typed)
    try:
        check_installed()
    except ImportError as error:
        return _refuse(error)
    from ryzanstein_llm.cli.progress import ProgressBar  # needs what the library needs

    with contextlib.closing(ProgressBar(sys.stderr)) as bar:
        try:
            if options.command == "card":
                return _card(options, _card_texts(options), bar)
            return _train(options, typed, bar)
        except KeyboardInterrupt:
            bar.close()
            sys.stderr.write("interrupted; what is saved stays, and the same command goes on\n")
            return 130
        except (RyzansteinError, OSError, ImportError) as error:
            bar.close()
            return _refuse(error)


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return 2


def _train(options: argparse.Namespace, typed: list[str], bar: ProgressBar) -> int:
    settings = settings_of(options)
    texts = _card_texts(options)  # a file that is missing is missed now, not after the training

    from .directory import RunDirectory
    from .finish import finish
    from .machine import choose_machine
    from .run import Run

    machine = choose_machine(
        options.device,
        options.precision,
        False if options.no_compile else None,
        threads=options.threads,
    )

    def report(line: str) -> None:
        bar.close()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def progress(share: float, what: str) -> None:
        bar.update(int(share * 1000), 1000, what)

    directory = RunDirectory(options.directory)
    run = Run(options.texts, directory, settings, machine, report, texts.prompts)
    run.compile()
    with interrupts() as asked:
        finished = run.train(progress, stop=lambda steps: bool(asked))
    if not finished:
        report(f"To go on:\n  {suggestions.resume(typed)}")
        return 130
    finish(run, progress)
    if settings.ternary:
        _card(options, texts, bar)
    lines = suggestions.after(options.texts, options.directory, settings, run.prompts[0])
    report("\n  ".join(["What to type next:", *lines]))
    return 0


def _card_texts(options: argparse.Namespace) -> CardTexts:
    """What the options say of the model; read before any work."""
    from .card import CardTexts

    given = {
        name: getattr(options, name).read_text(encoding="utf-8").strip()
        for name in ("about", "data", "licence")
        if getattr(options, name) is not None
    }
    prompts = [] if options.prompts is None else read_prompts(options.prompts)
    return CardTexts(**given, prompts=prompts)


def _card(options: argparse.Namespace, texts: CardTexts, bar: ProgressBar) -> int:
    from . import card
    from .directory import RunDirectory

    directory = RunDirectory(options.directory)
    found = card.write_card(
        directory,
        options.name or options.directory.resolve().name,
        texts,
        progress=lambda share, what: bar.update(int(share * 1000), 1000, what),
    )
    bar.close()
    sys.stdout.write(
        f"{directory.packed}: {found['bits_per_byte']:.4f} bits a byte with the library; "
        "README.md is its card\n"
    )
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options of `train` stand for.

    Raises
    ------
    RyzansteinError
        A value is out of range, or the checkpoint to begin with cannot be read.
    """

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
