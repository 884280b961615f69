"""Guesses of the next tokens: those that came last time, after the same three tokens.

The method is prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding). A pass
computes guesses together with the last token of a sequence, and they count as far as they are what
would have been chosen anyway. So a wrong guess costs time and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["NO_DRAFT", "Draft", "PromptLookup", "usual_guesses"]

USUAL_GUESSES = 15
"""Longer drafts hardly gain more: by then, most of a pass is arithmetic."""

LEAST_WEIGHTS = 50_000_000
"""In smaller models, a pass takes less than half a millisecond, and looking for guesses takes some
percent of that, which a text without repetition loses (measured: 3 % of the demo model)."""

NGRAM = 3
"""So many tokens must be equal. With two, guesses for prose are right half as often."""

TOKEN_BITS = 21
"""No vocabulary has more tokens."""

NGRAM_MASK = (1 << NGRAM * TOKEN_BITS) - 1

LONGEST = 8
"""Longer matches count as matches of so many tokens."""

LEARNING_RATE = 0.25

LEAST_CHANCE = 0.02
"""A guess that is less likely than this never pays."""


def usual_guesses(n_parameters: int) -> int:
    """The largest number of tokens of a draft, for a model with so many weights."""
    return USUAL_GUESSES if n_parameters >= LEAST_WEIGHTS else 0


class Draft(NamedTuple):
    """Guesses of the next tokens.

    Attributes
    ----------
    tokens : list of int
    chances : list of float in [0, 1]
        How likely it is that a token and all before it are right. They do not rise.
    """

    tokens: list[int]
    chances: list[float]


NO_DRAFT = Draft([], [])


class PromptLookup:
    """Guesses for one sequence, and how often they were right.

    Each token that was chosen is compared with the guess that there was for it, whether that was
    computed or not. So it is known at any time what guesses are worth, and finding out costs
    nothing. The longer the text before a guess agrees, the more often it is right; each length of a
    match has a rate of its own.

    Parameters
    ----------
    most : int >= 0
        The largest number of tokens of a draft.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._places: dict[int, int] = {}  # where the last occurrence of an n-gram ends
        self._ngram = 0  # the last tokens, as one number
        self._followed = 0
        self._source: int | None = None  # the place of the next guess
        self._match = 0  # so many tokens before it are equal to the last ones
        # how often guesses are right after a match of so many tokens; the first are rough averages
        self._rates = [length / 10 for length in range(LONGEST + 1)]

    def draft(self, tokens: Sequence[int], most: int) -> Draft:
        """Guesses of what comes after `tokens`, at most so many. Tokens may have been added since
        the last call; what was there is the same."""
        if self._followed != len(tokens):
            self._follow(tokens)
        if self._source is None:
            return NO_DRAFT
        chances: list[float] = []
        chance = 1.0
        for ahead in range(min(most, self.most)):
            chance *= self._rates[min(self._match + ahead, LONGEST)]
            if chance < LEAST_CHANCE:
                break
            chances.append(chance)
        guesses = list(tokens[self._source : self._source + len(chances)])
        while len(guesses) < len(chances):  # a text that repeats itself: goes on with the guesses
            guesses.append(guesses[self._source + len(guesses) - len(tokens)])
        return Draft(guesses, chances)

    def _follow(self, tokens: Sequence[int]) -> None:
        """Learn from the tokens that came since the last call."""
        first = not self._followed
        for place in range(self._followed, len(tokens)):
            source, match, token = self._source, self._match, tokens[place]
            if source is not None:
                right = tokens[source] == token
                length = match if match < LONGEST else LONGEST
                self._rates[length] += LEARNING_RATE * (right - self._rates[length])
                source, match = (source + 1, match + 1) if right else (None, 0)
            ngram = (self._ngram << TOKEN_BITS | token) & NGRAM_MASK
            if source is None and not (first and place < len(tokens) - 1):
                source, match = self._find(tokens, place + 1, ngram)
            self._places[ngram] = place + 1
            # with no call between, so that Ctrl-C comes before or after all of them
            self._ngram, self._source, self._match, self._followed = ngram, source, match, place + 1

    def _find(self, tokens: Sequence[int], end: int, ngram: int) -> tuple[int | None, int]:
        """(the place after an earlier occurrence of the last tokens before `end`, how many tokens
        before both are equal)."""
        source = self._places.get(ngram)
        if source is None or not NGRAM <= source < end:  # not: after an interrupt
            return None, 0
        match, most = NGRAM, min(LONGEST, source)
        while match < most and tokens[source - 1 - match] == tokens[end - 1 - match]:
            match += 1
        return source, match
