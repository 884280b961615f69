"""Prompts on which two correct implementations agree to many digits.

Activations are rounded to int8 before every projection. An activation at 41.500002
in one implementation and 41.499998 in another becomes 42 and 41: a change of 1/127 in
one input, after which most later activations differ a little and some of them round
apart as well. In the demo model two float32 implementations get that far after some
25 tokens, and from there on their logits differ by about 5e-3, while without it they
differ by 1e-6. Both are right.

A comparison that is to notice an error of 1e-3 therefore uses *steady* prompts: those on
which, by the reference alone, no activation of any layer comes near a tie. On other
prompts only loose bounds and averages mean anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .bitnet import BitNetReference

# In int8 steps. Two float32 implementations rarely differ by more, and by 1e-4 at the most.
STEADY_MARGIN = 4e-5


def is_steady(
    reference: BitNetReference, ids: Sequence[int], margin: float = STEADY_MARGIN
) -> bool:
    """Whether no activation of a pass over `ids` is within `margin` of a rounding tie."""
    return reference.closest_tie(ids) > margin


def steady_prompts(
    reference: BitNetReference,
    count: int,
    length: int,
    *,
    seed: int = 0,
    margin: float = STEADY_MARGIN,
    attempts: int = 4000,
) -> list[list[int]]:
    """`count` random prompts of `length` ids that are steady, the same ones for the same seed."""
    generator = np.random.default_rng(seed)
    drawn = (
        [int(i) for i in generator.integers(0, reference.shape.vocab, length)]
        for _ in range(attempts)
    )
    found = list(itertools.islice(steady_only(reference, drawn, margin), count))
    if len(found) < count:
        raise RuntimeError(f"{len(found)} of {count} steady prompts in {attempts} attempts")
    return found


def steady_only(
    reference: BitNetReference, prompts: Iterable[list[int]], margin: float = STEADY_MARGIN
) -> Iterator[list[int]]:
    """Those of `prompts` that are steady."""
    return (ids for ids in prompts if is_steady(reference, ids, margin))


def relative_error(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`max|ours − theirs| / max|theirs|` of every row of logits."""
    expected = np.asarray(theirs, np.float64)
    difference = np.abs(np.asarray(ours, np.float64) - expected)
    return np.max(difference, axis=-1) / np.max(np.abs(expected), axis=-1)
