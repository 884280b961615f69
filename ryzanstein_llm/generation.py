"""The generation loop. Token ids only: it knows no text, no tokenizer and no model family."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import CancelledError
from .kv_cache import KVCache
from .notebook import as_html
from .runner import CancelFlag, Runner
from .sampling import Sampler
from .text_table import beginning, number, plural

__all__ = ["GenerationResult", "Timings", "TokenLoop"]


@dataclass
class Timings:
    """Wall-clock seconds.

    Attributes
    ----------
    prefill : float
        From the start to the first token.
    decode : list of float
        For each later token.
    """

    prefill: float = 0.0
    decode: list[float] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Rate of the tokens after the first; 0 if there are none."""
        return len(self.decode) / sum(self.decode) if self.decode else 0.0


@dataclass(frozen=True, repr=False)
class GenerationResult:
    """What one request gave.

    Attributes
    ----------
    text : str or None
        The continuation, without the prompt and what followed a stop string; None if the
        checkpoint has no tokenizer.
    ids : list of int
        Its tokens, without an end-of-text token.
    finish_reason : str
        "eos": the model ended the text; "stop": a stop string came; "length": max_tokens or the
        end of the context; "cancelled".
    prompt_tokens, reused_tokens : int
        Tokens of the context before generation, and how many of them were in the cache already.
    timings : Timings
    """

    text: str | None
    ids: list[int]
    finish_reason: str
    prompt_tokens: int
    reused_tokens: int
    timings: Timings

    @property
    def usage(self) -> dict[str, int]:
        """Token counts under the names of OpenAI's API."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.ids),
            "total_tokens": self.prompt_tokens + len(self.ids),
        }

    def __repr__(self) -> str:
        text = "no text" if self.text is None else beginning(self.text)
        return f"GenerationResult({text}, {plural(len(self.ids), 'token')}, {self.finish_reason!r})"

    def _repr_html_(self) -> str:
        facts = {
            "tokens": f"{len(self.ids):,}, {self.finish_reason}",
            "prompt": f"{plural(self.prompt_tokens, 'token')}, {self.reused_tokens} from the cache",
        }
        if self.timings.decode:
            first, rate = 1e3 * self.timings.prefill, self.timings.tokens_per_second
            facts["time"] = f"{number(first)} ms to the first token, then {number(rate)} tokens/s"
        return as_html("GenerationResult", str(self.ids) if self.text is None else self.text, facts)


class TokenLoop:
    """Prefill once, then one token at a time, until something ends it.

    Parameters
    ----------
    tokens : list of int
        The sequence so far; new ones are appended. `cache` holds a prefix of it.
    max_tokens : int
        New tokens at most.
    eos_ids : collection of int
        Tokens that end the text and are not part of it.

    Attributes
    ----------
    finish_reason : str
        As in GenerationResult, once iteration has ended.
    """

    def __init__(
        self,
        runner: Runner,
        cache: KVCache,
        tokens: list[int],
        sampler: Sampler,
        *,
        max_tokens: int,
        eos_ids: Collection[int],
        cancel: CancelFlag,
    ) -> None:
        self._runner, self._cache, self._tokens = runner, cache, tokens
        self._sampler, self._max_tokens, self._eos_ids = sampler, max_tokens, eos_ids
        self._cancel = cancel
        self.finish_reason = "length"
        self.timings = Timings()

    def __iter__(self) -> Iterator[int]:
        for count in range(self._max_tokens):
            start = time.perf_counter()
            try:
                pending = self._tokens[self._cache.length :]
                ids, logits = self._logits(pending)
            except CancelledError:
                self.finish_reason = "cancelled"
                return
            computed = time.perf_counter()
            token = self._sampler(logits, ids)
            end = time.perf_counter()
            self._runner.sampled(end - computed)
            seconds = end - start
            if count:
                self.timings.decode.append(seconds)
            else:
                self.timings.prefill = seconds
            if token in self._eos_ids:
                self.finish_reason = "eos"
                return
            self._tokens.append(token)
            yield token

    def _logits(self, pending: list[int]) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
        """(ids, their logits) as far as the sampler needs them; ids None for all."""
        wanted = self._sampler.wanted
        if wanted is None:
            return None, self._runner.last_logits(self._cache, pending, self._cancel)
        return self._runner.likeliest(self._cache, pending, self._cancel, *wanted)
