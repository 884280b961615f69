"""Several prompts in one call: each is checked, all are computed together, results are in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np

from ..engine.engine import Engine
from ..errors import RyzansteinError
from ..generation import Generation
from ..options import GenerationArguments, GenerationOptions
from ..results import GenerationResult
from .workload import Workload

__all__ = ["Batch", "Make", "Progress", "Prompts", "is_batch", "sample_options"]

Prompts = list[str] | tuple[str, ...] | list[str | list[int]] | Sequence[Sequence[int]]
Progress = Callable[[int, int, str], None]
Make = Callable[[Any, str], list[Generation]]
"""(prompt, its name) to its samples. Raises RyzansteinError."""


def is_batch(prompt: Any) -> TypeGuard[Sequence[Any]]:
    """Whether it is several prompts: a list or tuple that holds a text or a sequence. An empty one,
    and one of numbers, is one prompt of ids."""
    return isinstance(prompt, (list, tuple)) and any(
        isinstance(each, (str, list, tuple, range))
        or (isinstance(each, np.ndarray) and each.ndim > 0)
        for each in prompt
    )


def sample_options(arguments: GenerationArguments, samples: int) -> list[GenerationArguments]:
    """The options of each sample of a prompt: seeds are `seed`, `seed` + 1 and so on, and after
    2**64 - 1 comes 0. Without a seed, each draws its own. Raises InvalidParameterError."""
    seed = GenerationOptions.from_arguments(arguments).sampling.seed
    if seed is None:
        return [arguments] * samples
    return [{**arguments, "seed": (seed + index) % (1 << 64)} for index in range(samples)]


class Batch:
    """The prompts of a call. An error names the prompt that it is about.

    Parameters
    ----------
    prompt : one prompt, or several
    make : callable (prompt, name) -> list of Generation
        The samples of a prompt, whose name is for messages.
    keep_errors : bool
        Whether an error takes the place of what it is about. Otherwise it is raised; that of a
        wrong prompt at once, before any work.
    progress : callable (done, total, what), optional
        Called when a generation has ended.

    Attributes
    ----------
    many : bool
        Whether it is several prompts.
    waiting : list of Generation
        All that have to be computed, in the order in which they better begin: long prompts first,
        so that none of them is alone at the end.
    """

    def __init__(
        self,
        prompt: Any,
        make: Make,
        *,
        keep_errors: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.many = is_batch(prompt)
        self._keep_errors, self._progress = keep_errors, progress
        self._places: list[list[Generation] | Exception] = []
        for index, each in enumerate(prompt if self.many else [prompt]):
            try:
                self._places.append(make(each, self._name(index)))
            except RyzansteinError as error:
                self._places.append(self._kept(error, index))
        self._index = {
            generation: index
            for index, place in enumerate(self._places)
            if isinstance(place, list)
            for generation in place
        }
        self.waiting = sorted(self._index, key=lambda each: -each.positions[0])
        self._done = 0

    def run(self, engine: Engine) -> None:
        """Compute all of them. If that fails, or Ctrl-C comes, none goes on."""
        work = Workload(engine)
        try:
            work.add(*self.waiting)
            while work:
                for generation in work.wait():
                    self.take(generation, generation.end())
        finally:
            for generation in self._index:
                if generation.started and not generation.over:
                    generation.abandon()

    def take(self, generation: Generation, error: Exception | None) -> None:
        """It has ended, maybe with an error. Raises errors, unless they are kept."""
        if error is not None:
            index = self._index[generation]
            self._places[index] = self._kept(error, index)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, len(self._index), "generating")

    def results(self) -> Iterator[list[GenerationResult] | Exception]:
        """What stands in the place of each prompt: its samples, or an error."""
        for place in self._places:
            if isinstance(place, list):
                yield [each.result for each in place if each.result is not None]
            else:
                yield place

    def _name(self, index: int) -> str:
        return f"prompt[{index}]" if self.many else "prompt"

    def _kept(self, error: Exception, index: int) -> Exception:
        """The error with the name of its prompt. Raises it, unless errors are kept."""
        name = self._name(index)
        if self.many and isinstance(error, RyzansteinError) and not str(error).startswith(name):
            error = error.about(name)
        if not self._keep_errors:
            raise error
        return error
