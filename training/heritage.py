"""What a run has from others: weights to begin with, teachers, and the tokenizer of both."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tokenizers import Tokenizer

from ryzanstein_llm.errors import InvalidParameterError

from . import vocabulary
from .directory import RunDirectory
from .model import BitNet
from .origin import Origin, read_origin
from .settings import Settings

__all__ = ["origin_of", "teacher_of", "tokenizer_of"]


def origin_of(settings: Settings) -> Origin | None:
    """The checkpoint that the settings name.

    Raises
    ------
    InvalidParameterError
        It has other sizes.
    RyzansteinError
        From reading it.
    """
    if settings.origin is None:
        return None
    origin = read_origin(Path(settings.origin))
    if origin.shape != settings.shape:
        raise InvalidParameterError(
            f"{settings.origin}: its sizes are {origin.shape}, not {settings.shape}"
        )
    return origin


def tokenizer_of(settings: Settings, origin: Origin | None, texts: list[str]) -> Tokenizer:
    """For a new run: that of its origin and teachers, or a new one.

    Raises
    ------
    InvalidParameterError
        They have several.
    """
    found = {RunDirectory(Path(path)).tokenizer().to_str() for path in settings.teachers}
    if origin is not None:
        found.add(origin.tokenizer.to_str())
    if len(found) > 1:
        given = [*([settings.origin] if settings.origin else []), *settings.teachers]
        raise InvalidParameterError(f"{', '.join(given)}: have several tokenizers")
    if found:
        return Tokenizer.from_str(found.pop())
    return vocabulary.train(texts, settings.shape.vocabulary)


def teacher_of(path: Path, student: Settings, held_out: str) -> BitNet:
    """The best model of an earlier run.

    Parameters
    ----------
    path
        Directory of the run.
    student
        Settings of the run that learns from it.
    held_out
        Text that the student is validated on.

    Raises
    ------
    InvalidParameterError
        It has another context, was validated on another text and so may have read this one, or has
        not been trained yet.
    """
    directory = RunDirectory(path)
    settings, state = directory.settings(), directory.load_state()
    if state is None or not state["best"]:
        raise InvalidParameterError(f"{path}: the teacher has not been trained")
    if settings.validation != student.validation:
        raise InvalidParameterError(
            f"{path}: the teacher's validation text is {settings.validation!r}, "
            f"not {student.validation!r}"
        )
    if directory.validation_file.read_text(encoding="utf-8") != held_out:
        raise InvalidParameterError(
            f"{path}: the teacher's texts are others, and it may have read what is held out here"
        )
    if settings.shape.context != student.shape.context:
        raise InvalidParameterError(
            f"{path}: the teacher's context is {settings.shape.context}, "
            f"not {student.shape.context}"
        )
    shape = dataclasses.replace(settings.shape, vocabulary=student.shape.vocabulary)
    teacher = BitNet(shape, settings.ternary)
    teacher.load_state_dict(state["best"]["weights"])
    return teacher.eval()
