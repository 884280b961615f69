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
        isinstance(each, (str, bytes, list, tuple, range))
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
    """
    Parameters
    ----------
    prompts : sequence
    make : callable (prompt, name) -> list of Generation
        The samples of a prompt. Errors call it by this name.
    keep_errors : bool
        Whether an error takes the place of what it is about. Otherwise it is raised; that of a
        prompt at once, before any work.
    progress : callable (done, total, what) or None
        Called when a generation has ended.

    Attributes
    ----------
    waiting : list of Generation
        All that have to be computed, in the order in which they better begin: long prompts first,
        so that a long one is not alone at the end.
    """

    def __init__(
        self,
        prompts: Sequence[Any],
        make: Make,
        *,
        keep_errors: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._places: list[list[Generation] | Exception] = []
        self._keep_errors, self._progress = keep_errors, progress
        for index, prompt in enumerate(prompts):
            try:
                self._places.append(make(prompt, f"prompt[{index}]"))
            except RyzansteinError as error:
                if not keep_errors:
                    raise
                self._places.append(error)
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
                    self.take(generation)
        finally:
            self.give_up()

    def take(self, generation: Generation, error: Exception | None = None) -> None:
        """It has ended, maybe with an error. Raises errors, unless they are kept."""
        try:
            if error is not None:
                raise error
            generation.end()
        except Exception as problem:
            index = self._index[generation]
            if isinstance(problem, RyzansteinError):
                problem = problem.about(f"prompt[{index}]")
            if not self._keep_errors:
                raise problem from None
            self._places[index] = problem
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, len(self._index), "generating")

    def give_up(self) -> None:
        """Nothing that has not ended goes on."""
        for generation in self._index:
            if generation.started and not generation.over:
                generation.abandon()

    def results(self) -> Iterator[list[GenerationResult] | Exception]:
        """What stands in the place of each prompt: its samples, or an error."""
        for place in self._places:
            if isinstance(place, list):
                yield [each.result for each in place if each.result is not None]
            else:
                yield place
