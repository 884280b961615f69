"""Which tokens a grammar allows next, by llguidance."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidParameterError, UnsupportedFeatureError
from ..text.tokenizer import Tokenizer
from ..text.vocabulary import Vocabulary
from .grammars import llguidance, without_added_lines

__all__ = ["GrammarConstraint", "grammar_constraint"]

KEPT_GRAMMARS = 16
"""So many compiled grammars are kept for a tokenizer, with what their masks have in common."""


class GrammarConstraint:
    """A `sampling.constraints.Constraint` that follows a grammar.

    Parameters
    ----------
    grammars : Grammars
    argument, grammar : str
        What the caller calls the grammar, and the grammar in the form of llguidance.
    eos_ids : collection of int
        Tokens that end a text. They are allowed where the grammar may end, and nowhere else.
    after : int or None
        The token after which the grammar holds; None: from the beginning.
    unless : sequence of int
        The tokens of a tag with which the text may begin instead. Everything may follow that.
    """

    def __init__(
        self,
        grammars: Grammars,
        argument: str,
        grammar: str,
        eos_ids: Collection[int],
        after: int | None = None,
        unless: Sequence[int] = (),
    ) -> None:
        self._grammars, self._argument, self._after = grammars, argument, after
        self._unless = unless
        self._eos_ids = [each for each in eos_ids if each < grammars.size]
        self._start = grammars.compiled(argument, grammar)
        self.forget()

    def forget(self) -> None:
        """See `Constraint`."""
        self._matcher: Any = self._start.deep_copy()
        self._followed = 0
        self._holds = self._after is None
        self._possible = True  # whether the text can still follow the grammar
        self._tagged = 0  # how much of the tag it begins with; -1: it does not

    def follow(self, tokens: Sequence[int], prompt_tokens: int) -> None:
        """See `Constraint`. Raises InvalidParameterError if llguidance gives up."""
        for token in tokens[prompt_tokens + self._followed :]:
            if not self._holds:
                self._holds = token == self._after
            elif not self._free:
                expected = self._next_of_tag()
                if self._possible and token == expected:
                    self._possible = bool(self._matcher.try_consume_tokens([token]))
                elif self._possible and not self._matcher.consume_token(token):
                    raise self._failure()
                self._tagged = self._tagged + 1 if token == expected else -1
            self._followed += 1

    @property
    def _free(self) -> bool:
        """Whether the text begins with the tag."""
        return 0 < len(self._unless) == self._tagged

    def _next_of_tag(self) -> int | None:
        return None if self._tagged < 0 or not self._unless else self._unless[self._tagged]

    @property
    def finished(self) -> bool:
        """See `Constraint`."""
        holds = self._holds and self._possible and not self._free
        return holds and bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_] | None:
        """See `Constraint`. Raises InvalidParameterError if llguidance gives up, or if the grammar
        cannot be continued with the tokens of the model."""
        if not self._holds or self._free:
            return None
        mask = self._mask() if self._possible else np.zeros(self._grammars.size, np.bool_)
        token = self._next_of_tag()
        if token is not None:
            mask[token] = True
        if not mask.any():
            raise self._failure()
        return mask

    def _mask(self) -> NDArray[np.bool_]:
        """The tokens that the grammar allows next."""
        words = np.empty(self._grammars.words, np.int32)
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            raise self._failure()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)
        bits[self._grammars.end_id] = False
        mask: NDArray[np.bool_] = bits[: self._grammars.size]
        mask[self._eos_ids] = self._matcher.is_accepting()
        return mask

    def forced(self) -> int | None:
        """See `Constraint`. Bytes that must come are spelled as the tokenizer would spell them; the
        mask allows only that spelling, too."""
        if not self._holds or self._free:
            return None
        token = self._next_of_tag()
        if token is not None:
            return None if self._possible else token
        tokens = self._matcher.compute_ff_tokens()
        if not tokens or tokens[0] >= self._grammars.size or tokens[0] in self._eos_ids:
            return None
        return int(tokens[0])

    def _failure(self) -> InvalidParameterError:
        said = _first_line(self._matcher.get_error()) or "no token of the model fits"
        return InvalidParameterError(f"cannot be followed any further: {said}", self._argument)


class Grammars:
    """Compiled grammars for the tokens of one model. Several threads may use it at once, without
    locks, which a fork might leave held: at worst, something is built twice.

    Parameters
    ----------
    vocabulary : Vocabulary
        With a tokenizer.

    Attributes
    ----------
    size : int
        Tokens of the model.
    words : int
        Words of 32 bits in a mask.
    end_id : int
        The token that means the end of a text to llguidance.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokenizer = vocabulary.tokenizer
        assert tokenizer is not None
        self.size = vocabulary.size
        known = [each for each in vocabulary.eos_ids if each < tokenizer.vocab_size]
        try:
            self._tokenizer = llguidance().LLTokenizer(
                tokenizer.raw.to_str(),
                n_vocab=max(self.size, tokenizer.vocab_size),
                eos_token=known[0] if known else None,
            )
        except (ValueError, RuntimeError) as error:
            raise UnsupportedFeatureError(
                f"{vocabulary.path}: llguidance cannot use this tokenizer: {error}"
            ) from error
        self.words = -(-self._tokenizer.vocab_size // 32)
        self.end_id: int = self._tokenizer.eos_token
        self._compiled: dict[str, Any] = {}

    def compiled(self, argument: str, grammar: str) -> Any:
        """An LLMatcher at the beginning of a grammar. It must not be changed. Raises
        InvalidParameterError if the grammar is not valid."""
        found = self._compiled.get(grammar)
        if found is None:
            library = llguidance()
            quiet = library.LLParserLimits(verbose_errors=False)
            found = library.LLMatcher(self._tokenizer, grammar, log_level=0, limits=quiet)
            if found.is_error():
                problem = without_added_lines(found.get_error(), argument)
                raise InvalidParameterError(f"is not valid: {problem}", argument)
            for former in list(self._compiled)[: 1 - KEPT_GRAMMARS]:
                self._compiled.pop(former, None)
            self._compiled[grammar] = found
        return found


_known: weakref.WeakKeyDictionary[Tokenizer, Grammars] = weakref.WeakKeyDictionary()


def grammar_constraint(
    vocabulary: Vocabulary,
    argument: str,
    grammar: str,
    after: str | None = None,
    unless: str | None = None,
) -> GrammarConstraint:
    """A constraint at the beginning of a text. What llguidance has to know of the tokenizer is
    built once for each, which takes a second for 128,000 tokens.

    Parameters
    ----------
    vocabulary : Vocabulary
    argument, grammar
        See `GrammarConstraint`.
    after : str or None
        The token after which the grammar holds.
    unless : str or None
        The tag with which the text may begin instead.

    Raises
    ------
    InvalidParameterError, UnsupportedFeatureError, TokenizerMissingError
    """
    vocabulary.refuse_text(True)
    tokenizer = vocabulary.tokenizer
    assert tokenizer is not None
    grammars = _known.get(tokenizer)
    if grammars is None:
        grammars = _known.setdefault(tokenizer, Grammars(vocabulary))
    begins = None if after is None else tokenizer.token_id(after)
    if after is not None and begins is None:
        raise UnsupportedFeatureError(
            f"{vocabulary.path}: {argument} holds after the reasoning of the model, whose end "
            f"{after!r} is no token here"
        )
    tag = [] if unless is None else vocabulary.tokenize(unless, add_special_tokens=False)
    return GrammarConstraint(grammars, argument, grammar, vocabulary.eos_ids, begins, tag)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
