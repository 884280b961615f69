"""What programs that evaluate models ask for, in terms of this library. Knows no such program."""

from .answers import generate_answers
from .chat import TaskChat
from .generation_kwargs import MAX_TOKENS, TaskGeneration, cut, read_generation_kwargs
from .opening import open_pretrained
from .pairs import Likelihood, score_pairs
from .progress import Progress
from .report import EvaluationReport

__all__ = [
    "MAX_TOKENS",
    "EvaluationReport",
    "Likelihood",
    "Progress",
    "TaskChat",
    "TaskGeneration",
    "cut",
    "generate_answers",
    "open_pretrained",
    "read_generation_kwargs",
    "score_pairs",
]
