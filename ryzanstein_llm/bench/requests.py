"""Requests whose tokens are measured beside greedy ones: they are drawn, their logits are changed,
or their log probabilities are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..sampling import Adjustments, Sampler, SamplingParams

__all__ = ["GREEDY", "SAMPLED", "Request"]


@dataclass(frozen=True)
class Request:
    """
    Attributes
    ----------
    title : str
        What is asked for, in the words of `generate`.
    params : SamplingParams
    bias : mapping from token id to float
    logprobs : int or None
    """

    title: str
    params: SamplingParams
    bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether it has to give the tokens of a greedy request."""
        return self.params == SamplingParams() and not self.bias

    def sampler(self) -> Sampler:
        """A new sampler, for one sequence."""
        return Sampler(self.params, Adjustments(bias=self.bias, logprobs=self.logprobs))


GREEDY = Request("greedy", SamplingParams())

SAMPLED = {
    "top-p": Request(
        "temperature 0.7, top_p 0.95", SamplingParams(temperature=0.7, top_p=0.95, seed=1)
    ),
    "temperature": Request("temperature 0.7", SamplingParams(temperature=0.7, seed=1)),
    "repetition-penalty": Request("repetition_penalty 1.1", SamplingParams(repetition_penalty=1.1)),
    "logit-bias": Request("logit_bias of two tokens", SamplingParams(), {0: 1.0, 1: -2.0}),
    "logprobs": Request("the five likeliest logprobs", SamplingParams(), logprobs=5),
}
"""By the names of their rows."""
