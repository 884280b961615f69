"""How the next token is chosen."""

from .adjustments import BAN, Adjustments, LogitsProcessor
from .logprobs import MOST_LOGPROBS, Logprobs, log_probabilities
from .params import SamplingParams
from .sampler import Sampler

__all__ = [
    "BAN",
    "MOST_LOGPROBS",
    "Adjustments",
    "LogitsProcessor",
    "Logprobs",
    "Sampler",
    "SamplingParams",
    "log_probabilities",
]
