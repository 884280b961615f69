"""Checks that every setting computes what the scalar tier computes, because a wrong kernel can
easily be fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.compute import new_cancel_flag
from ..errors import BenchError
from ..model import BitNetModel
from ..sampling import Sampler, SamplingParams
from .cases import digest, prompt
from .measured_engine import MeasuredEngine
from .plan import Plan, Setting

__all__ = ["check_against_scalar"]

PROMPT_TOKENS = 32
NEW_TOKENS = 8


def check_against_scalar(
    model: BitNetModel, plan: Plan, use: Callable[[Setting], MeasuredEngine]
) -> dict[str, Any]:
    """Check that a short run under each setting gives the tokens and the last logits of the scalar
    tier.

    Parameters
    ----------
    use : callable
        Makes a setting the current one and returns its engine.

    Returns
    -------
    dict
        prompt_tokens, tokens (ids), logits (digest of the last logits), settings.

    Raises
    ------
    BenchError
        If a token or a bit of a logit differs.
    """
    new = min(NEW_TOKENS, model.context_length - 1)
    ids = prompt(model, min(PROMPT_TOKENS, model.context_length - new))
    scalar = Setting("scalar", plan.fastest.threads)
    tokens, logits = _short_run(model, use(scalar), ids, new)
    for setting in plan.settings:
        found = _short_run(model, use(setting), ids, new)
        if found[0] != tokens:
            raise BenchError(f"output differs: {setting}: tokens {found[0]}, {scalar}: {tokens}")
        differing = np.flatnonzero(found[1].view(np.uint32) != logits.view(np.uint32))
        if differing.size:
            first = int(differing[0])
            raise BenchError(
                f"output differs: {setting}: {differing.size} of {logits.size} last logits, the "
                f"first {first}: {found[1][first]!r}, {scalar}: {logits[first]!r}"
            )
    return {
        "prompt_tokens": len(ids),
        "tokens": tokens,
        "logits": digest(logits),
        "settings": [asdict(setting) for setting in plan.settings],
    }


def _short_run(
    model: BitNetModel, engine: MeasuredEngine, ids: list[int], new: int
) -> tuple[list[int], NDArray[np.float32]]:
    """(greedy tokens, logits after the last of them)."""
    sequence = engine.sequence(list(ids), Sampler(SamplingParams()), max_tokens=new)
    engine.advance(sequence, to_end=True)
    engine.leave(sequence, keep=False)
    tokens = sequence.tokens
    return tokens[len(ids) :], engine.last_logits(model.new_cache(), tokens, new_cancel_flag())
