"""How likely given continuations of a prompt are, and which of them is the likeliest."""

from .results import Choice, Score
from .source import ScoreSource

__all__ = ["Choice", "Score", "ScoreSource"]
