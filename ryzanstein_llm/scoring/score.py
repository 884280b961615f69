"""Scores of continuations: from texts to tokens, and from answers to scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.branches import Stem, run_stems
from ..engine.engine import Engine
from ..errors import ContextOverflowError, InvalidParameterError, RyzansteinError
from ..errors.request import LONGER_CONTEXT
from ..kernels.elementwise import (
    cumulative_sum,
    enter_float_mode,
    leave_float_mode,
    softmax_weights,
)
from ..text.vocabulary import Prompt, Vocabulary
from ..validation import check_callable, check_choice, check_token_ids
from .results import Choice, Score

__all__ = ["choose", "score", "score_each", "several"]

NORMALIZATIONS = ("none", "tokens", "characters", "bytes")

Progress = Callable[[int, int, str], None]


def score(
    engine: Engine,
    vocabulary: Vocabulary,
    prompts: Any,
    continuations: Any,
    normalize: str = "none",
    progress: Progress | None = None,
    *,
    many: bool,
    name: str = "continuations",
) -> list[list[Score]]:
    """The scores of all continuations, for each of `prompts`. See `ScoreSource.score`. Errors name
    the index of a prompt if the caller gave `many`, and `name` is what the caller calls the
    continuations."""
    _check(vocabulary, normalize, progress)
    options = _listed(continuations, name)
    asked = [
        (prompt, f"prompt[{index}]" if many else "prompt", options, name)
        for index, prompt in enumerate(prompts)
    ]
    return _scores(engine, vocabulary, asked, normalize, progress)


def score_each(
    engine: Engine,
    vocabulary: Vocabulary,
    prompts: Any,
    continuations: Any,
    normalize: str = "none",
    progress: Progress | None = None,
) -> list[list[Score]]:
    """The scores of each prompt's own continuations. See `ScoreSource.score_each`."""
    _check(vocabulary, normalize, progress)
    listed = [_listed(prompts, "prompts"), _listed(continuations, "continuations")]
    if len(listed[0]) != len(listed[1]):
        problem = f"must hold a list for each of {len(listed[0])} prompts, not {len(listed[1])}"
        raise InvalidParameterError(problem, "continuations")
    asked = []
    for index, (prompt, own) in enumerate(zip(*listed, strict=True)):
        name = f"continuations[{index}]"
        asked.append((prompt, f"prompts[{index}]", _listed(own, name), name))
    return _scores(engine, vocabulary, asked, normalize, progress)


Asked = tuple[Any, str, list[Any], str]
"""A prompt, what messages call it, its continuations, and what messages call these."""


def _check(vocabulary: Vocabulary, normalize: str, progress: Progress | None) -> None:
    check_choice("normalize", normalize, NORMALIZATIONS)
    check_callable("progress", progress)
    if normalize in ("characters", "bytes"):
        vocabulary.refuse_text(True)


def _scores(
    engine: Engine,
    vocabulary: Vocabulary,
    asked: Sequence[Asked],
    normalize: str,
    progress: Progress | None,
) -> list[list[Score]]:
    stems, places = [], []
    texts: list[str | None] = []
    former: list[Any] | None = None
    for prompt, place, options, name in asked:
        try:
            tokens, found = _tokens(vocabulary, prompt, options, place, name)
            for ids in found:
                _refuse_long(engine, len(tokens), len(ids))
        except RyzansteinError as error:
            if place != "prompt" and not str(error).startswith((place, name)):
                error = error.about(place)
            raise error
        if options is not former:
            former, texts = options, [_text(vocabulary, option) for option in options]
        stem = Stem(tokens)
        if found:
            stems.append(stem)
        places.append([(text, ids, stem.ask(ids)) for text, ids in zip(texts, found, strict=True)])
    if stems:
        run_stems(engine, stems, progress)
    return [[_score(*each, normalize) for each in found] for found in places]


def choose(
    engine: Engine,
    vocabulary: Vocabulary,
    prompts: Any,
    options: Any,
    normalize: str = "none",
    progress: Progress | None = None,
    *,
    many: bool,
) -> list[Choice]:
    """The likeliest option, for each of `prompts`. See `ScoreSource.choose`."""
    listed = _listed(options, "options")
    if not listed:
        raise InvalidParameterError("must hold at least one option", "options")
    _refuse_repeated(listed)
    given = (engine, vocabulary, prompts, options, normalize, progress)
    found = score(*given, many=many, name="options")
    return [_choice(scores) for scores in found]


def several(prompt: Any) -> bool:
    """Whether this is a list of prompts, and not one prompt as text or ids. An empty list is one of
    no prompts."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return False
    if not prompt:
        return isinstance(prompt, (list, tuple))
    return isinstance(prompt[0], (str, list, tuple, np.ndarray))


def _refuse_repeated(options: list[Any]) -> None:
    """Raise InvalidParameterError if one is there twice: each would get a part of the
    probability."""
    places: dict[Any, int] = {}
    for index, option in enumerate(options):
        text = isinstance(option, str)
        if not text and not isinstance(option, (list, tuple, np.ndarray)):
            continue  # no option at all, which is refused later
        key = option if text else repr(np.asarray(option).tolist())
        first = places.setdefault((text, key), index)
        if first != index:
            problem = f"is the same as options[{first}]: {option!r}"
            raise InvalidParameterError(problem, f"options[{index}]")


def _listed(given: Any, name: str) -> list[Any]:
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Sequence):
        problem = f"must be a list of str or of token ids, not {given!r}"
        raise InvalidParameterError(problem, name)
    return list(given)


def _tokens(
    vocabulary: Vocabulary, prompt: Prompt, options: list[Any], place: str, name: str
) -> tuple[list[int], list[list[int]]]:
    """(tokens of the prompt, those of each continuation after it). Errors call the prompt `place`,
    and the continuations `name`.

    As lm-eval does: blanks at the end of the prompt belong to the continuation, both are encoded
    together, and the tokens after the number of tokens that the prompt has alone are the
    continuation's.
    """
    text = prompt if isinstance(prompt, str) else ""
    stripped = text.rstrip()
    blanks = text[len(stripped) :]
    if blanks and any(not isinstance(option, str) for option in options):
        stripped, blanks = text, ""  # ids go on from the prompt as it is
    context = vocabulary.read_prompt(stripped if isinstance(prompt, str) else prompt, place).first
    found = []
    where = "the prompt" if place == "prompt" else place
    for index, option in enumerate(options):
        if not isinstance(option, str):
            ids = check_token_ids(f"{name}[{index}]", option, vocabulary.size, or_text=True)
        elif stripped:
            ids = vocabulary.tokenize(stripped + blanks + option)[len(context) :]
        else:
            ids = vocabulary.tokenize(blanks + option, add_special_tokens=False)
        if not ids:
            problem = f"must have a token after {where}, but {option!r} has none"
            raise InvalidParameterError(problem, f"{name}[{index}]")
        found.append(ids)
    return context, found


def _refuse_long(engine: Engine, prompt: int, continuation: int) -> None:
    """Raise an error if so many tokens do not fit together."""
    tokens = prompt + continuation - 1  # nothing is computed after the last one
    if tokens > engine.context_length:
        reason = (
            f"the prompt has {prompt}, and a continuation {continuation}, of which the last needs "
            f"no place; shorten them, or {LONGER_CONTEXT}"
        )
        raise ContextOverflowError(tokens, engine.context_length, reason)
    if tokens > engine.store.capacity:
        raise engine.store.refuse(tokens)


def _text(vocabulary: Vocabulary, option: Any) -> str | None:
    if isinstance(option, str):
        return option
    return None if vocabulary.tokenizer is None else vocabulary.detokenize(option)


def _score(text: str | None, ids: list[int], places: list[Any], normalize: str) -> Score:
    logprobs = [place.logprobs[token] for place, token in zip(places, ids, strict=True)]
    length = {
        "none": 1,
        "tokens": len(ids),
        "characters": len(text or ""),
        "bytes": len((text or "").encode("utf-8")),
    }[normalize]
    if not length:
        raise InvalidParameterError(f"{ids} have no text whose length could divide", "normalize")
    mode = enter_float_mode()  # the caller's mode may round differently
    try:
        total = 0.0
        for logprob in logprobs:
            total += logprob
        greedy = all(place.likeliest == token for place, token in zip(places, ids, strict=True))
        return Score(text, ids, logprobs, total, total / length, greedy)
    finally:
        leave_float_mode(mode)


def _choice(scores: list[Score]) -> Choice:
    values = [each.normalized for each in scores]
    best = max(range(len(values)), key=lambda index: (values[index], -index))
    mode = enter_float_mode()
    try:
        weights, _ = softmax_weights(np.array([v - values[best] for v in values], np.float32))
        total = float(cumulative_sum(weights)[-1])
        probabilities = [weight / total for weight in weights.tolist()]
    finally:
        leave_float_mode(mode)
    return Choice(best, scores[best].text, probabilities, scores)
