"""What models and sessions have in common: they continue a prompt."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .generation import Generation
from .options import GenerationArguments
from .results import GenerationResult
from .text.vocabulary import Prompt
from .text_iterator import TextIterator
from .validation import check_bool

__all__ = ["TextSource"]


class TextSource:
    """`generate` and `stream`. A subclass makes their requests in `_start`."""

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
        """Continue a prompt. A session appends the prompt to the tokens it has. The default is
        greedy decoding.

        Parameters
        ----------
        prompt : str or sequence of int
            Text or token ids. At the start of a sequence, beginning-of-text is added to a text if
            the tokenizer says so. Nothing is added to ids. An empty prompt is beginning-of-text
            alone.
        return_result : bool
            Return a `GenerationResult` (text, ids, finish_reason, timings, usage) instead of the
            text.
        max_tokens : int >= 0, optional
            The largest number of new tokens. None: up to the end of the context.
        stop : str or sequence of str, optional
            The text ends before the first of these that appears.
        ignore_eos : bool
            Continue after end-of-text tokens.
        schema, regex, choices, grammar
            The form of the text, at most one of them; see `GenerationArguments`. `parsed` of the
            result says what the text means.
        overflow, min_tokens, stop_token_ids, logit_bias, logits_processor, logprobs,
        prompt_lookup_num_tokens
            See `GenerationArguments`.
        sampling : SamplingParams, optional
            How to choose tokens.
        temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty,
        frequency_penalty, seed
            Fields of SamplingParams; they override those of `sampling`.

        Returns
        -------
        str or GenerationResult
            The continuation only, without the prompt.

        Raises
        ------
        InvalidParameterError, ContextOverflowError, CacheBudgetError, EmptyPromptError,
        TokenizerMissingError, MissingExtraError, ClosedError
        SessionBusyError
            If the session is generating in another thread, or in a stream that has not ended.
        """
        whole = check_bool("return_result", return_result)
        result = self._start(prompt, options, needs_text=not whole).run()
        return result if whole else result.text or ""

    def stream(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> TextIterator:
        """Like `generate`, but in pieces. Together they are the text that `generate` returns, and
        none ends within a character. Arguments are checked at once. `close()` ends the stream
        early, and so does `cancel()`, from any thread."""
        return TextIterator(self._start(prompt, options, needs_text=True))

    def _start(
        self, prompt: Prompt, arguments: GenerationArguments, *, needs_text: bool
    ) -> Generation:
        """A new request; prompt and arguments have passed all checks.

        Parameters
        ----------
        needs_text : bool
            Whether the caller wants text, so that a tokenizer is needed.
        """
        raise NotImplementedError
