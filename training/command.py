"""The options of `python -m training`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from .settings import OPTIMIZERS, SHAPES, Settings, Shape

__all__ = ["SIZES", "parser"]

DEFAULTS = Settings()
SIZES = [field.name for field in dataclasses.fields(Shape) if field.type == "int"]


def parser() -> argparse.ArgumentParser:
    """The parser; `command` of what it returns is "train" or "card"."""
    program = argparse.ArgumentParser(prog="python -m training")
    commands = program.add_subparsers(required=True, dest="command", metavar="COMMAND")
    _add_train(
        commands.add_parser(
            "train",
            help="from a folder of text files to a checkpoint",
            description="Train a BitNet b1.58 model on the .txt files of the folder TEXTS. All "
            "files of the run are written to DIRECTORY: at the end the model, packed/ and bf16/. "
            "Ctrl-C saves the run; the same command goes on with it.",
        )
    )
    card = commands.add_parser(
        "card",
        help="measure a finished run with the library, and write its card",
        description="Measure packed/ of a finished run with the library, and write its README.md "
        "and SAMPLES.md. `train` does this at its end.",
    )
    card.add_argument("directory", type=Path, metavar="DIRECTORY")
    _add_card_options(card)
    return program


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("texts", type=Path, metavar="TEXTS")
    train.add_argument("directory", type=Path, metavar="DIRECTORY")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of training (default: 60)")
    budget.add_argument("--steps", type=int, help="instead of minutes")
    train.add_argument("--validation", metavar="FILE", help="of TEXTS, held out of training "
                       "(default: parts of all files, a twentieth of the text)")  # fmt: skip
    train.add_argument("--from", dest="origin", type=Path, metavar="CHECKPOINT",
                       help="bf16/ of an earlier run: begin with its weights, tokenizer and sizes "
                       "(default: random weights)")  # fmt: skip
    train.add_argument("--shape", choices=SHAPES, help="sizes (default: 6m); or one by one:")
    for name in SIZES:
        train.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    for name, text in (
        ("rows", "of the context's length in a batch"),
        ("accumulate", "batches in a step"),
        ("first_parts", "into how many each row is cut in the first half of the run"),
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
    train.add_argument("--no-compile", action="store_true",
                       help="begin at once, without torch.compile; steps are slower")  # fmt: skip
    _add_card_options(train)


def _add_card_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--name", help="of the model (default: that of DIRECTORY)")
    for name, text in (
        ("about", "a paragraph on the model for its card"),
        ("data", "what the card says of the texts"),
        ("licence", "what it says of licences"),
        ("prompts", "for samples, one a line (default: beginnings of held-out paragraphs)"),
    ):
        options.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
