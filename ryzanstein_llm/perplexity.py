"""Perplexity: how well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .engine.compute import new_cancel_flag
from .engine.engine import Engine
from .errors import FormatError, InvalidParameterError
from .kernels.elementwise import negative_log_likelihood
from .notebook import as_html
from .text.vocabulary import Vocabulary
from .text_table import number, plural
from .validation import check_callable, check_int, check_token_ids

__all__ = ["PerplexityResult", "perplexity"]


@dataclass(frozen=True, repr=False)
class PerplexityResult:
    """
    Attributes
    ----------
    perplexity : float
        exp of the mean negative log likelihood of a token.
    bits_per_byte : float or None
        Total negative log likelihood in bits, divided by the UTF-8 bytes of the text; comparable
        between tokenizers. None if ids were given.
    tokens : int
        Tokens that were scored.
    nll : float
        Total negative log likelihood in nats.
    """

    perplexity: float
    bits_per_byte: float | None
    tokens: int
    nll: float

    def __float__(self) -> float:
        return self.perplexity

    def __repr__(self) -> str:
        bits = "" if self.bits_per_byte is None else f"{self.bits_per_byte:.3f} bits per byte, "
        return f"PerplexityResult({number(self.perplexity)}, {bits}{plural(self.tokens, 'token')})"

    def _repr_html_(self) -> str:
        bits = {} if self.bits_per_byte is None else {"bits per byte": f"{self.bits_per_byte:.3f}"}
        facts = {"perplexity": number(self.perplexity), **bits, "tokens": f"{self.tokens:,}"}
        return as_html("PerplexityResult", facts)


def perplexity(
    engine: Engine,
    vocabulary: Vocabulary,
    text: str | Sequence[int],
    *,
    stride: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> PerplexityResult:
    """See `BitNetModel.perplexity`."""
    check_callable("progress", progress)
    if isinstance(text, str):
        ids = vocabulary.tokenize(text, add_special_tokens=False)
    else:
        ids = check_token_ids("text", text, vocabulary.size, or_text=True)
    if not ids or (vocabulary.start_id is None and len(ids) < 2):
        raise InvalidParameterError(f"has {plural(len(ids), 'token')}, too few to score", "text")
    start = [] if vocabulary.start_id is None else [vocabulary.start_id]
    if ids[:1] == start and len(ids) > 1:
        ids = ids[1:]  # each window begins with it anyway
    window = engine.context_length - len(start)
    if engine.context_length < 2:
        problem = f"must be 2 or more for perplexity, not {engine.context_length}"
        raise InvalidParameterError(problem, "context_length")
    step = window if stride is None else check_int("stride", stride, 1, window)

    total, count, done, begin = 0.0, 0, 0, 0
    while done < len(ids):
        end = min(begin + window, len(ids))
        # a window's first token has nothing before it, so it is not scored
        first = max(len(start) + done - begin, 1)
        tokens = start + ids[begin:end]
        total += _score_window(engine, vocabulary.path, tokens, first)
        count += len(tokens) - first
        done = end
        begin += step
        if progress is not None:
            progress(done, len(ids), "scoring")
    return PerplexityResult(
        perplexity=math.exp(total / count) if total / count < 709 else math.inf,
        bits_per_byte=total / math.log(2) / len(text.encode()) if isinstance(text, str) else None,
        tokens=count,
        nll=total,
    )


def _score_window(engine: Engine, path: Path, ids: list[int], first: int) -> float:
    """Negative log likelihood in nats of ids[first:], each after all earlier ids of the window."""
    total, position = 0.0, 0
    if len(ids) < 2:
        return total
    cache = engine.store.new_cache()
    for logits in engine.blocks_of_logits(cache, ids[:-1], new_cancel_flag()):
        targets = np.asarray(ids[position + 1 : position + 1 + len(logits)], np.int64)
        losses = negative_log_likelihood(logits, targets)
        if not np.isfinite(losses).all():
            raise FormatError(f"{path}: logits are not finite: the weights overflow")
        for offset, loss in enumerate(losses.tolist()):
            if position + 1 + offset >= first:
                total += loss
        position += len(logits)
    return total
