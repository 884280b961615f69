"""How the next token is chosen."""

from .params import SamplingParams
from .sampler import Sampler

__all__ = ["Sampler", "SamplingParams"]
