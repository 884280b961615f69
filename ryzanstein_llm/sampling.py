"""From logits to the next token. Knows vocabularies and numbers, no models and no text.

Bits must not depend on the CPU: exp and log are the library's own, sums run in a
stated order, and NumPy only indexes, sorts integers and does single IEEE operations.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, InvalidParameterError
from .interfaces.head_query import Candidates, HeadQuery
from .kernels.elementwise import (
    cumulative_sum,
    enter_float_mode,
    leave_float_mode,
    log,
    softmax_weights,
)
from .notebook import as_html
from .validation import check_float, check_int

if TYPE_CHECKING:
    from .model import BitNetModel

__all__ = ["Sampler", "SamplingParams"]

# A smaller temperature would not survive in float32.
GREEDY_BELOW = 1e-30

Float32 = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class SamplingParams:
    """How to choose the next token. The default is greedy: the likeliest, ties to the lowest id.

    Applied in this order: penalties, temperature, top_k, top_p, min_p, typical_p.

    Parameters
    ----------
    temperature : float in [0, 100]
        Divides the logits; 0, and what is below 1e-30, is greedy.
    top_k : int >= 0
        Keep the k likeliest tokens; 0 keeps all.
    top_p : float in (0, 1]
        Keep the fewest likeliest tokens whose probabilities sum to p
        (Holtzman et al. 2020, arXiv 1904.09751).
    min_p : float in [0, 1]
        Drop tokens below p times the likeliest (Nguyen et al. 2024, arXiv 2407.01082).
    typical_p : float in (0, 1]
        Keep the tokens whose surprise is nearest the entropy, up to mass p
        (Meister et al. 2023, arXiv 2202.00666).
    repetition_penalty : float in [0.01, 100]
        Logits of tokens seen in prompt or output are divided by it if positive, multiplied if
        negative (Keskar et al. 2019, arXiv 1909.05858); 1 is off.
    presence_penalty, frequency_penalty : float in [-100, 100]
        Subtracted from the logits of generated tokens, once, and per occurrence.
    seed : int in [0, 2**64), optional
        Same seed, same text; None draws one from the operating system.

    Raises
    ------
    InvalidParameterError
        If a value is outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "temperature": check_float("temperature", self.temperature, 0, 100),
            "top_k": check_int("top_k", self.top_k, 0, 1 << 31),
            "top_p": check_float("top_p", self.top_p, 0, 1, above_low=True),
            "min_p": check_float("min_p", self.min_p, 0, 1),
            "typical_p": check_float("typical_p", self.typical_p, 0, 1, above_low=True),
            "repetition_penalty": check_float(
                "repetition_penalty", self.repetition_penalty, 0.01, 100
            ),
            "presence_penalty": check_float("presence_penalty", self.presence_penalty, -100, 100),
            "frequency_penalty": check_float(
                "frequency_penalty", self.frequency_penalty, -100, 100
            ),
        }
        if self.seed is not None:
            checked["seed"] = check_int("seed", self.seed, 0, (1 << 64) - 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _changed(self) -> dict[str, Any]:
        """What differs from the defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed().items())
        return f"SamplingParams({changed})"

    def _repr_html_(self) -> str:
        changed = {name: repr(value) for name, value in self._changed().items()}
        return as_html("SamplingParams", changed or "the defaults: greedy")

    @classmethod
    def from_checkpoint(cls, model: BitNetModel, **overrides: Any) -> SamplingParams:
        """The defaults of the checkpoint's generation_config.json, with `overrides` on top.

        `do_sample: false`, or no file, means greedy.

        Raises
        ------
        FormatError
            If the file holds a value outside its range.
        InvalidParameterError
            If an override is unknown or outside its range.
        """
        found = model.generation_config
        names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
        stored = {name: found[name] for name in names if found.get(name) is not None}
        if not found.get("do_sample", False):
            stored["temperature"] = 0.0
        else:
            stored.setdefault("temperature", 1.0)
        try:
            params = cls(**stored)
        except InvalidParameterError as error:
            raise FormatError(f"{model.path}: generation_config.json: {error}") from None
        return params.with_overrides(overrides)

    def with_overrides(self, overrides: dict[str, Any]) -> SamplingParams:
        """A copy with some values replaced; None keeps a value."""
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return replace(self, **given)
        except TypeError:
            unknown = ", ".join(sorted(set(given) - set(self.__dataclass_fields__)))
            known = ", ".join(self.__dataclass_fields__)
            raise InvalidParameterError(
                f"unknown sampling parameter: {unknown}; there are {known}"
            ) from None


class Sampler:
    """Chooses the tokens of one sequence. A choice depends only on the logits, the parameters and
    the tokens before it, so that one that was interrupted can be made again.

    Parameters
    ----------
    params : SamplingParams
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        self._seed = seed
        self.forget()

    def forget(self) -> None:
        """Learn from the tokens anew."""
        self._seen: set[int] = set()
        self._counts: Counter[int] = Counter()
        self._followed = 0
        # NumPy keeps the raw stream of PCG64 stable for ever, unlike its distributions.
        self._bits, self._drawn = np.random.PCG64(self._seed), 0

    def query(self, tokens: Sequence[int], prompt_tokens: int) -> HeadQuery:
        """The logits that the choice after `tokens` needs, of which so many are the prompt."""
        self._follow(tokens, prompt_tokens)
        count, margin = self._reach()
        also = None if count is None else self._changed()
        return HeadQuery(count, margin, also)

    def choose(self, candidates: Candidates, index: int) -> int:
        """The next token id.

        Parameters
        ----------
        candidates : Candidates
            The answer to `query`, or to one that asks for more. Not changed.
        index : int
            How many tokens were chosen before.

        Raises
        ------
        FormatError
            If the logits are not finite: the checkpoint's weights overflow.
        """
        logits, ids = candidates.logits, candidates.ids
        mode = enter_float_mode()  # the caller's may flush or round otherwise
        try:
            chosen = self._choose(
                self._penalized(logits, ids) if self._penalizes else logits, index
            )
        finally:
            leave_float_mode(mode)
        return chosen if ids is None else int(ids[chosen])

    def _follow(self, tokens: Sequence[int], prompt_tokens: int) -> None:
        """Count the tokens that came since the last time."""
        if not self._penalizes:
            return
        for index in range(self._followed, len(tokens)):
            token = tokens[index]
            self._seen.add(token)
            if index >= prompt_tokens:
                self._counts[token] += 1
        self._followed = len(tokens)

    def _reach(self) -> tuple[int | None, float]:
        """(count, margin) of the query. What penalties change is in `also`, so the likeliest of
        the others reach as far as without them."""
        params = self._params
        if params.temperature < GREEDY_BELOW:
            return 1, 0.0
        if params.top_k:
            return params.top_k, 0.0
        if params.min_p > 0 and params.top_p == 1:
            # a little more than it takes: what is too much is dropped by the exact rule
            distance = -float(log(np.array([params.min_p]))[0])
            return 1, params.temperature * distance * 1.001 + 0.01
        return None, 0.0

    def _changed(self) -> NDArray[np.int64] | None:
        """Ids whose logits the next choice changes, rising; None if there are none."""
        changed = self._seen if self._params.repetition_penalty != 1 else self._counts.keys()
        if not self._penalizes or not changed:
            return None
        return np.array(sorted(changed), np.int64)

    def _random(self, index: int) -> float:
        """The number in [0, 1) for the choice with this index."""
        if self._drawn != index:
            self._bits, self._drawn = np.random.PCG64(self._seed), 0
            self._bits.advance(index)
        self._drawn = index + 1
        return float(self._bits.random_raw() >> 11) * 2.0**-53

    def _choose(self, logits: Float32, index: int) -> int:
        _check_finite(logits.max())  # NaN, if there is one
        if self._params.temperature < GREEDY_BELOW:
            return int(np.argmax(logits))  # the first of equals
        return self._draw(logits, index)

    @property
    def _penalizes(self) -> bool:
        return self._params.repetition_penalty != 1 or self._counting

    @property
    def _counting(self) -> bool:
        return self._params.presence_penalty != 0 or self._params.frequency_penalty != 0

    def _penalized(self, logits: Float32, ids: NDArray[np.int64] | None) -> Float32:
        params = self._params
        logits = logits.copy()
        if params.repetition_penalty != 1 and self._seen:
            at = _places(np.array(sorted(self._seen), np.int64), ids)
            penalty, values = np.float32(params.repetition_penalty), logits[at]
            logits[at] = np.where(values > 0, values / penalty, values * penalty)
        if self._counting and self._counts:
            counted = np.array(sorted(self._counts), np.int64)
            at = _places(counted, ids)
            counts = np.array([self._counts[token] for token in counted.tolist()], np.float32)
            logits[at] -= np.float32(params.presence_penalty)
            logits[at] -= np.float32(params.frequency_penalty) * counts
        return logits

    def _draw(self, logits: Float32, index: int) -> int:
        params = self._params
        ids = _descending(logits, params.top_k)
        # the largest is taken off first, so that a small temperature cannot overflow
        weights, _ = softmax_weights(
            (logits[ids] - logits[ids[0]]) / np.float32(params.temperature)
        )
        ids, weights = _keep_top_p(ids, weights, params.top_p)
        if params.min_p > 0:
            kept = weights >= np.float32(params.min_p) * weights[0]
            ids, weights = ids[kept], weights[kept]
        if params.typical_p < 1:
            ids, weights = _keep_typical(ids, weights, params.typical_p)
        sums = cumulative_sum(weights)
        point = self._random(index) * float(sums[-1])
        return int(ids[min(int(np.searchsorted(sums, point, side="right")), len(ids) - 1)])


def _places(
    wanted: NDArray[np.int64], ids: NDArray[np.int64] | None
) -> NDArray[np.int64] | NDArray[np.intp]:
    """Where the logits of `wanted` are among those of `ids`, which hold them all."""
    return wanted if ids is None else np.searchsorted(ids, wanted)


def _check_finite(largest: np.float32) -> None:
    if not np.isfinite(largest):
        raise FormatError(f"the model's logits are not finite ({largest}): its weights overflow")


def _descending(logits: Float32, top_k: int) -> NDArray[np.int64]:
    """Token ids by falling logit, equals by rising id; only the first top_k unless that is 0.

    Sorts unique integers (order-preserving bits of the float, then the id), so the result does
    not depend on which sort NumPy has for this CPU. NaN comes first.
    """
    bits = (logits + np.float32(0)).view(np.uint32)  # + 0: -0 and +0 are equal
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys = (~rising).astype(np.uint64) << np.uint64(32) | np.arange(len(logits), dtype=np.uint64)
    if 0 < top_k < len(keys):
        keys = np.partition(keys, top_k - 1)[:top_k]
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _keep_top_p(
    ids: NDArray[np.int64], weights: Float32, top_p: float
) -> tuple[NDArray[np.int64], Float32]:
    if top_p == 1:
        return ids, weights
    sums = cumulative_sum(weights)
    count = int(np.searchsorted(sums, top_p * sums[-1], side="left")) + 1
    return ids[:count], weights[:count]


def _keep_typical(
    ids: NDArray[np.int64], weights: Float32, typical_p: float
) -> tuple[NDArray[np.int64], Float32]:
    positive = weights > 0  # what underflowed has no logarithm, and no chance
    ids, weights = ids[positive], weights[positive]
    probabilities = weights / cumulative_sum(weights)[-1]  # float64
    surprise = -log(probabilities)
    entropy = cumulative_sum((probabilities * surprise).astype(np.float32))[-1]
    order = np.argsort(np.abs(surprise - entropy), kind="stable")
    sums = cumulative_sum(weights[order])
    count = int(np.searchsorted(sums, typical_p * sums[-1], side="left")) + 1
    kept = np.sort(order[:count])
    return ids[kept], weights[kept]
