"""What scoring gives back."""

from __future__ import annotations

from dataclasses import dataclass

from ..notebook import as_html
from ..text_table import beginning, number, plural

__all__ = ["Choice", "Score"]


@dataclass(frozen=True, repr=False)
class Score:
    """How likely a continuation is after a prompt.

    Attributes
    ----------
    text : str or None
        The continuation. None if ids were given and the checkpoint has no tokenizer.
    ids : list of int
        Its tokens.
    logprobs : list of float
        The natural logarithm of the probability of each token, given all before it.
    logprob : float
        Their sum, added in order.
    normalized : float
        `logprob` divided by the length that `normalize` says.
    greedy : bool
        Whether each token is the likeliest at its place, so that greedy decoding gives this
        continuation.
    """

    text: str | None
    ids: list[int]
    logprobs: list[float]
    logprob: float
    normalized: float
    greedy: bool

    def __repr__(self) -> str:
        text = "no text" if self.text is None else beginning(self.text)
        return f"Score({text}, {plural(len(self.ids), 'token')}, {number(self.logprob)})"

    def _repr_html_(self) -> str:
        facts = {"log probability": number(self.logprob), "tokens": f"{len(self.ids):,}"}
        return as_html("Score", str(self.ids) if self.text is None else self.text, facts)


@dataclass(frozen=True, repr=False)
class Choice:
    """The likeliest of several options.

    Attributes
    ----------
    index : int
        Of the option with the largest normalized score; of equal ones, the first.
    text : str or None
        That option.
    probabilities : list of float
        Of all options, as if nothing else could come: the softmax of the normalized scores.
    scores : list of Score
    """

    index: int
    text: str | None
    probabilities: list[float]
    scores: list[Score]

    def __repr__(self) -> str:
        text = f"option {self.index}" if self.text is None else beginning(self.text)
        return f"Choice({text}, {self.probabilities[self.index]:.3f} of {len(self.scores)} options)"

    def _repr_html_(self) -> str:
        facts = {
            f"{index}: {each.ids if each.text is None else each.text}": f"{probability:.3f}"
            for index, (each, probability) in enumerate(
                zip(self.scores, self.probabilities, strict=True)
            )
        }
        return as_html("Choice", facts)
