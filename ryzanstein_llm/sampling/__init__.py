"""How the next token is chosen."""

from .constraints import Constraint
from .params import SamplingParams
from .sampler import Sampler

__all__ = ["Constraint", "Sampler", "SamplingParams"]
