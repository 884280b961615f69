"""What makes a model one that continues many prompts in one call."""

from __future__ import annotations

from typing import Any, Literal, Required, Unpack, overload

from ..engine.engine import Engine
from ..errors import InvalidParameterError
from ..generation import Generation
from ..options import GenerationArguments
from ..results import GenerationResult
from ..text.vocabulary import Prompt, Vocabulary
from ..text_source import TextSource
from ..validation import check_bool, check_callable, check_choice, check_int
from .batch import Batch, Progress, Prompts, is_batch, sample_options

__all__ = ["BatchSource", "CallArguments", "ResultArguments", "TextArguments", "arranged"]

MOST_SAMPLES = 1 << 16


class CallArguments(GenerationArguments, total=False):
    """Keyword arguments of `generate` beside those of a generation."""

    progress: Progress | None


class TextArguments(CallArguments, total=False):
    """Those of a call that returns texts."""

    return_result: Literal[False]


class ResultArguments(CallArguments, total=False):
    """Those of a call that returns results."""

    return_result: Required[Literal[True]]


class BatchSource(TextSource):
    """`generate` with one prompt or many. A subclass has the attributes, and makes requests in
    `_start`."""

    engine: Engine
    vocabulary: Vocabulary

    @overload
    def generate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[TextArguments]
    ) -> str: ...
    @overload
    def generate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[ResultArguments]
    ) -> GenerationResult: ...
    @overload
    def generate(
        self, prompt: Prompt, *, n: int, **options: Unpack[TextArguments]
    ) -> list[str]: ...
    @overload
    def generate(
        self, prompt: Prompt, *, n: int, **options: Unpack[ResultArguments]
    ) -> list[GenerationResult]: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        return_result: bool,
        n: None = None,
        **options: Unpack[CallArguments],
    ) -> str | GenerationResult: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[TextArguments],
    ) -> list[str]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[ResultArguments],
    ) -> list[GenerationResult]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["raise"] = "raise",
        **options: Unpack[TextArguments],
    ) -> list[list[str]]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["raise"] = "raise",
        **options: Unpack[ResultArguments],
    ) -> list[list[GenerationResult]]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["return"],
        **options: Unpack[TextArguments],
    ) -> list[str | Exception]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["return"],
        **options: Unpack[ResultArguments],
    ) -> list[GenerationResult | Exception]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["return"],
        **options: Unpack[TextArguments],
    ) -> list[list[str] | Exception]: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["return"],
        **options: Unpack[ResultArguments],
    ) -> list[list[GenerationResult] | Exception]: ...
    def generate(
        self,
        prompt: Any,
        *,
        return_result: bool = False,
        n: int | None = None,
        errors: Any = None,
        progress: Progress | None = None,
        **options: Unpack[GenerationArguments],
    ) -> Any:
        """Continue a prompt, or each prompt of a batch. The default is greedy decoding.

        Parameters
        ----------
        prompt : str or sequence of int; or a list of these
            Text or token ids. Beginning-of-text is added to a text if the tokenizer says so.
            Nothing is added to ids. An empty prompt is beginning-of-text alone. A list or tuple of
            texts, or of lists of ids, is a batch. An empty list, or one of ints, is one prompt.
        return_result : bool
            Return a `GenerationResult` (text, ids, finish_reason, timings, usage) instead of the
            text.
        n : int in 1..65536, optional
            How many continuations of each prompt. Their seeds are `seed`, `seed` + 1 and so on, so
            that greedy ones are equal.
        errors : "raise" or "return"
            Only for a batch. "raise": the first prompt that is wrong is an error, which names its
            index, before any work. "return": an exception takes the place of what a wrong prompt
            would give, and the others are computed.
        progress : callable (done, total, what), optional
            Called when a continuation has ended, in this thread.
        max_tokens, stop, ignore_eos, sampling, temperature, top_k, ...
            See `GenerationArguments`. They hold for all prompts of a batch.

        Returns
        -------
        str or GenerationResult
            The continuation only, without the prompt. With `n`, a list of these. For a batch, a
            list of what each prompt would give alone, in the order of the prompts.

        Raises
        ------
        InvalidParameterError, ContextOverflowError, CacheBudgetError, EmptyPromptError,
        TokenizerMissingError, ClosedError
        """
        whole = check_bool("return_result", return_result)
        if n is None and errors is None and progress is None and not is_batch(prompt):
            result = self._start(prompt, options, needs_text=not whole).run()
            return result if whole else result.text or ""
        batch = self._batch(prompt, options, whole, n, errors, progress)
        batch.run(self.engine)
        return arranged(batch, whole=whole, n=n)

    def _batch(
        self,
        prompt: Any,
        options: GenerationArguments,
        whole: bool,
        n: Any,
        errors: Any,
        progress: Progress | None,
    ) -> Batch:
        """All requests of a call of `generate`, with checked arguments."""
        _ = self.engine.graph  # ClosedError
        samples = 1 if n is None else check_int("n", n, 1, MOST_SAMPLES)
        if errors is not None:
            check_choice("errors", errors, ("raise", "return"))
            if not is_batch(prompt):
                problem = "is for a list of prompts that is not empty, and this is one prompt"
                raise InvalidParameterError(problem, "errors")
        check_callable("progress", progress)
        arguments = sample_options(options, samples)
        any_length = options.get("overflow") not in (None, "error")

        def make(prompt: Prompt, name: str) -> list[Generation]:
            ids = self.vocabulary.read_prompt(prompt, name, any_length=any_length).first
            started = [self._start(ids, each, needs_text=not whole) for each in arguments]
            if len(ids) > self.engine.store.capacity and not any_length:
                raise self.engine.store.refuse(len(ids))
            return started

        return Batch(prompt, make, keep_errors=errors == "return", progress=progress)


def arranged(batch: Batch, *, whole: bool, n: int | None) -> Any:
    """The results of a batch that has ended, as `generate` returns them."""
    places: list[Any] = []
    for place in batch.results():
        if isinstance(place, list):
            found = [result if whole else result.text or "" for result in place]
            places.append(found[0] if n is None else found)
        else:
            places.append(place)
    return places if batch.many else places[0]
