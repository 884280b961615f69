"""Continuations of many prompts, each as its task asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import InvalidParameterError
from ..model import BitNetModel
from .generation_kwargs import TaskGeneration
from .pairs import warn_of_shortened
from .progress import TOGETHER, Progress, part_of

__all__ = ["generate_answers"]


def generate_answers(
    model: BitNetModel,
    asked: Sequence[tuple[Sequence[int], TaskGeneration]],
    max_length: int,
    progress: Progress | None = None,
    on_result: Callable[[int, list[int]], None] = lambda place, found: None,
) -> list[list[int]]:
    """The tokens that follow each prompt, with those of the stop string that ended them.

    Equal prompts have one continuation if it is greedy, and samples with consecutive seeds if not.

    Parameters
    ----------
    model : BitNetModel
    asked : sequence of (token ids, TaskGeneration)
    max_length : int
        Most tokens of a prompt and its continuation. What is too much is cut off at the beginning
        of the prompt, and a log message says so.
    progress : callable (continuations done, continuations, "generating"), optional
    on_result : callable (place of the prompt, tokens), optional
        Called as results come.

    Raises
    ------
    InvalidParameterError
        If a continuation leaves no room for a prompt.
    """
    alike: dict[tuple[TaskGeneration, tuple[int, ...]], list[int]] = {}
    shortened = 0
    for place, (ids, task) in enumerate(asked):
        room = max_length - task.max_tokens
        if room < 1:
            problem = f"must be less than max_length={max_length}, not {task.max_tokens}"
            raise InvalidParameterError(problem, "max_gen_toks")
        shortened += len(ids) > room
        alike.setdefault((task, tuple(ids[-room:])), []).append(place)
    warn_of_shortened(shortened, max_length)
    groups: dict[tuple[TaskGeneration, int], list[tuple[int, ...]]] = {}
    for (task, prompt), places in alike.items():
        groups.setdefault((task, len(places) if task.sampled else 1), []).append(prompt)
    total = sum(samples * len(prompts) for (_, samples), prompts in groups.items())
    found: list[list[int]] = [[]] * len(asked)
    done = 0
    for (task, samples), prompts in groups.items():
        prompts.sort()  # those that begin alike share their beginning
        for start in range(0, len(prompts), TOGETHER):
            part = prompts[start : start + TOGETHER]
            results = model.generate(
                part,
                n=samples,
                return_result=True,
                max_tokens=task.max_tokens,
                min_tokens=task.min_tokens,
                stop=task.until,
                sampling=task.sampling,
                progress=part_of(progress, done, total, "generating"),
            )
            done += len(part) * samples
            for prompt, own in zip(part, results, strict=True):
                for index, place in enumerate(alike[task, prompt]):
                    found[place] = own[index % samples].ids
                    on_result(place, found[place])
    return found
