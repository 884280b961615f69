"""`score` and `choose` of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from ..engine.engine import Engine
from ..models import refuse_embedding_model
from ..text.vocabulary import Prompt, Vocabulary
from .results import Choice, Score
from .score import choose, score, score_each, several

__all__ = ["ScoreSource"]

Normalize = Literal["none", "tokens", "characters", "bytes"]
Prompts = Sequence[str] | Sequence[Sequence[int]]
Progress = Callable[[int, int, str], None]


class ScoreSource:
    """A subclass has the attributes."""

    engine: Engine
    vocabulary: Vocabulary

    @overload
    def score(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        prompt: str | Sequence[int],
        continuations: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> list[Score]: ...
    @overload
    def score(
        self,
        prompt: Prompts,
        continuations: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> list[list[Score]]: ...
    def score(
        self,
        prompt: Prompt | Prompts,
        continuations: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> list[Score] | list[list[Score]]:
        """How likely each continuation is after a prompt. For a list of prompts, a list for each.

        A prompt is computed once for all its continuations, what all prompts begin with is computed
        once for all of them, and several prompts and continuations go through the model together.
        Scores are equal bit for bit to those alone.

        Parameters
        ----------
        prompt : str, sequence of int, or a sequence of these
            As in `generate`, but an empty list is a list of no prompts, and so is the result.
        continuations : sequence of str, or of sequences of int
            Texts are encoded together with the prompt, and the tokens that come after as many as
            the prompt has alone are the continuation's. Blanks at the end of the prompt count as
            the beginning of the continuation. (So does lm-eval; arXiv 2405.14782.) After a prompt
            of ids or an empty one, texts are encoded alone. Ids are taken as they are.
        normalize : "none", "tokens", "characters" or "bytes"
            What `Score.normalized` is divided by: nothing, or the length of the continuation.
        progress : callable (done, total, what), optional
            Called as prompts are done.

        Raises
        ------
        InvalidParameterError, ContextOverflowError, CacheBudgetError, EmptyPromptError,
        TokenizerMissingError, SessionBusyError, ClosedError
        FormatError
            If logits are not finite.
        UnsupportedModelError
            If the model embeds texts and cannot continue them.
        """
        refuse_embedding_model(self.engine.graph, self.vocabulary.path)
        many = several(prompt)
        prompts: Any = prompt if many else [prompt]
        given = (self.engine, self.vocabulary, prompts, continuations, normalize, progress)
        found = score(*given, many=many)
        return found if many else found[0]

    def score_each(
        self,
        prompts: Prompts,
        continuations: Sequence[Prompts],
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> list[list[Score]]:
        """How likely each continuation is after its own prompt. `score` asks for the same
        continuations after all prompts, this for others after each.

        Parameters
        ----------
        prompts : sequence of str, or of sequences of int
        continuations : sequence, as long as `prompts`, of what `score` takes
            Those of the first prompt, those of the second, and so on.
        normalize, progress
            See `score`, and there for errors.

        Returns
        -------
        list of list of Score
            For each prompt, one for each of its continuations.
        """
        refuse_embedding_model(self.engine.graph, self.vocabulary.path)
        return score_each(self.engine, self.vocabulary, prompts, continuations, normalize, progress)

    @overload
    def choose(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        prompt: str | Sequence[int],
        options: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> Choice: ...
    @overload
    def choose(
        self,
        prompt: Prompts,
        options: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> list[Choice]: ...
    def choose(
        self,
        prompt: Prompt | Prompts,
        options: Prompts,
        *,
        normalize: Normalize = "none",
        progress: Progress | None = None,
    ) -> Choice | list[Choice]:
        """The likeliest of several options after a prompt. For a list of prompts, one for each.

        Parameters and errors are those of `score`, with `options` for `continuations`, at least one
        and none twice. Options of different lengths are compared more fairly with `normalize`.
        """
        refuse_embedding_model(self.engine.graph, self.vocabulary.path)
        many = several(prompt)
        prompts: Any = prompt if many else [prompt]
        given = (self.engine, self.vocabulary, prompts, options, normalize, progress)
        found = choose(*given, many=many)
        return found if many else found[0]
