"""What a model and a session have in common: they continue a prompt."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .generation import Generation
from .options import GenerationArguments
from .results import GenerationResult
from .text.vocabulary import Prompt
from .text_iterator import TextIterator

__all__ = ["TextSource"]


class TextSource:
    """`generate` and `stream`, by a request that `_start` makes."""

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        return_result: Literal[False] = False,
        **options: Unpack[GenerationArguments],
    ) -> str: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        return_result: Literal[True],
        **options: Unpack[GenerationArguments],
    ) -> GenerationResult: ...
    @overload
    def generate(
        self, prompt: Prompt, *, return_result: bool, **options: Unpack[GenerationArguments]
    ) -> str | GenerationResult: ...
    def generate(
        self,
        prompt: Prompt,
        *,
        return_result: bool = False,
        **options: Unpack[GenerationArguments],
    ) -> str | GenerationResult:
        """Continue a prompt; a session continues what it holds, then the prompt. Greedy unless told
        otherwise.

        Parameters
        ----------
        prompt : str or sequence of int
            Text (beginning-of-text is added at the start of a sequence, as the tokenizer says) or
            token ids, taken as they are. Empty: beginning-of-text alone.
        return_result : bool
            Return a `GenerationResult` (text, ids, finish_reason, timings, usage).
        max_tokens : int >= 0, optional
            New tokens at most; None means up to the end of the context.
        stop : str or sequence of str, optional
            The text ends before the first of these.
        ignore_eos : bool
            Go on after end-of-text tokens.
        sampling : SamplingParams, optional
        temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty,
        frequency_penalty, seed
            Fields of SamplingParams.

        Returns
        -------
        str or GenerationResult
            The continuation only, without the prompt.

        Raises
        ------
        InvalidParameterError, ContextOverflowError, CacheBudgetError, EmptyPromptError,
        TokenizerMissingError, ClosedError
        SessionBusyError
            If a session is generating in another thread, or a stream of it has not ended.
        """
        result = self._start(prompt, options, needs_text=not return_result).run()
        return result if return_result else result.text or ""

    def stream(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> TextIterator:
        """Like `generate`, piece by piece: the pieces together are its text, and no piece ends
        within a character. Arguments are checked now. `close()` ends it early, and `cancel()` from
        any thread."""
        return TextIterator(self._start(prompt, options, needs_text=True))

    def _start(
        self, prompt: Prompt, arguments: GenerationArguments, *, needs_text: bool
    ) -> Generation:
        """A request of which all that can be wrong has been checked.

        Parameters
        ----------
        needs_text : bool
            Whether ids alone would not do.
        """
        raise NotImplementedError
