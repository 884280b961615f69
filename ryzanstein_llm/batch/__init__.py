"""Many prompts at once: which of them are in the engine, and what becomes of each."""

from .batch import Batch, Progress, Prompts, is_batch
from .source import BatchSource, CallArguments, ResultArguments, TextArguments, arranged
from .workload import Workload

__all__ = [
    "Batch",
    "BatchSource",
    "CallArguments",
    "Progress",
    "Prompts",
    "ResultArguments",
    "TextArguments",
    "Workload",
    "arranged",
    "is_batch",
]
