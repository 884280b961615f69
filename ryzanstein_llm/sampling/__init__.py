"""How the next token is chosen."""

from .adjustments import BAN, Adjustments, LogitsProcessor
from .constraints import Constraint
from .logprobs import MOST_LOGPROBS, Logprobs, log_probabilities
from .params import SamplingParams
from .sampler import Sampler

__all__ = [
    "BAN",
    "MOST_LOGPROBS",
    "Adjustments",
    "Constraint",
    "LogitsProcessor",
    "Logprobs",
    "Sampler",
    "SamplingParams",
    "log_probabilities",
]
