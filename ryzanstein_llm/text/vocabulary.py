"""The tokens of a model: text to ids and back, with their ranges checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import (
    ContextOverflowError,
    EmptyPromptError,
    FormatError,
    TokenizerMissingError,
)
from ..validation import check_bool, check_token_ids
from .tokenizer import TextStream, Tokenizer

__all__ = ["Prompt", "PromptIds", "Vocabulary"]

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class PromptIds:
    """A prompt as token ids.

    Attributes
    ----------
    first : list of int
        The ids at the start of a sequence, with beginning-of-text. At least one.
    later : list of int
        The ids after other tokens.
    """

    first: list[int]
    later: list[int]

    def after(self, tokens: list[int]) -> list[int]:
        """All tokens of a sequence that had `tokens` before this prompt."""
        return [*tokens, *self.later] if tokens else list(self.first)


@dataclass(frozen=True)
class Vocabulary:
    """
    Attributes
    ----------
    path : Path
        The path of the checkpoint, for messages.
    size : int
        Rows of the embedding; ids are 0..size-1.
    tokenizer : Tokenizer or None
    eos_ids : tuple of int
        Tokens that end a text.
    start_id : int or None
        The token that an empty prompt begins with.
    shown : frozenset of str
        Special tokens that are not left out of generated text.
    context_length : int or None
        No prompt may have more ids, so work for a longer one is not begun.
    """

    path: Path
    size: int
    tokenizer: Tokenizer | None
    eos_ids: tuple[int, ...]
    start_id: int | None
    shown: frozenset[str] = frozenset()
    context_length: int | None = None

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """See `BitNetModel.tokenize`."""
        special = check_bool("add_special_tokens", add_special_tokens)
        return self._checked(self._require_tokenizer().encode(text, add_special_tokens=special))

    def _checked(self, ids: list[int]) -> list[int]:
        if ids and max(ids) >= self.size:
            raise FormatError(
                f"{self.path}: tokenizer.json gives id {max(ids)}, but the model has "
                f"{self.size} tokens"
            )
        return ids

    def refuse_long(self, text: str) -> None:
        """Raise ContextOverflowError if the length of a text alone shows that it has more tokens
        than the context."""
        if self.context_length is not None:
            fewest = self._require_tokenizer().fewest_ids(text)
            if fewest > self.context_length:
                raise ContextOverflowError(fewest, self.context_length)

    def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """See `BitNetModel.detokenize`."""
        skip = check_bool("skip_special_tokens", skip_special_tokens)
        checked = check_token_ids("ids", ids, self.size)
        return self._require_tokenizer().decode(checked, skip_special_tokens=skip)

    def token_bytes(self, token_id: int) -> bytes | None:
        """The bytes that a token stands for within a text; None if there is no tokenizer."""
        return None if self.tokenizer is None else self.tokenizer.token_bytes(token_id)

    def text_stream(self, before: Sequence[int] = ()) -> TextStream | None:
        """A new incremental `detokenize` of what comes after the ids `before`; None if there is no
        tokenizer."""
        if self.tokenizer is None:
            return None
        return self.tokenizer.stream(before=before, shown=self.shown)

    def read_prompt(
        self, prompt: Prompt, name: str = "prompt", *, any_length: bool = False
    ) -> PromptIds:
        """The ids of a prompt. Nothing is added to ids. An empty prompt at the start of a sequence,
        or one whose text has no tokens, is the token `start_id`.

        Raises
        ------
        InvalidParameterError, TokenizerMissingError, EmptyPromptError, FormatError
        ContextOverflowError
            There are more ids than the context has, or a text is so long that this is certain;
            unless `any_length`.
        """
        if not isinstance(prompt, str):
            first = later = check_token_ids(
                name,
                prompt,
                self.size,
                or_text=True,
                most=None if any_length else self.context_length,
            )
        elif prompt:
            if not any_length:
                self.refuse_long(prompt)
            first, later = map(self._checked, self._require_tokenizer().encode_prompt(prompt))
        else:
            first = later = []
        if first:
            return PromptIds(first, later)
        if self.start_id is None:
            raise EmptyPromptError(
                f"{self.path}: the prompt {'has no tokens' if prompt else 'is empty'}, and the "
                "checkpoint names no BOS, padding or EOS token to start from"
            )
        return PromptIds([self.start_id], later)

    def refuse_text(self, needed: bool) -> None:
        """Raise TokenizerMissingError if text is needed and there is no tokenizer."""
        if needed and self.tokenizer is None:
            raise TokenizerMissingError(
                f"{self.path}: there is no tokenizer.json, so text cannot be made; "
                "use generate(ids, return_result=True).ids"
            )

    def _require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise TokenizerMissingError(
                f"{self.path}: there is no tokenizer.json beside the weights"
            )
        return self.tokenizer
