"""Encoding in which some special tokens are text, and the others still special tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from tokenizers import AddedToken
from tokenizers import Tokenizer as RawTokenizer

from ..errors import InvalidParameterError
from .tokenizer import Tokenizer

__all__ = ["OrdinaryText"]


class OrdinaryText:
    """Encodes texts in which the places of special tokens are known.

    Parameters
    ----------
    tokenizer : Tokenizer
    control : collection of str
        Added tokens of the tokenizer that may be written as ordinary text.
    """

    def __init__(self, tokenizer: Tokenizer, control: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._added = {
            each.content: each for each in tokenizer.raw.get_added_tokens_decoder().values()
        }
        self._control = frozenset(control)
        longest_first = sorted(control, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._lean: dict[str, RawTokenizer] = {}

    def encode(
        self, text: str, is_ordinary: Callable[[str], bool], restore: Callable[[str], str]
    ) -> list[int]:
        """The ids of a text.

        Parameters
        ----------
        text : str
            What reads as a control token is one.
        is_ordinary : callable
            Whether a part of the text has something that `restore` will make read as a control
            token, which it must not become.
        restore : callable
        """
        ids: list[int] = []
        waiting = ""  # text that can be encoded as usual
        pieces = self._pattern.split(text)  # text, token, text, token, ..., text
        for index in range(0, len(pieces), 2):
            before = pieces[index - 1] if index else None
            after = pieces[index + 1] if index + 1 < len(pieces) else None
            if is_ordinary(pieces[index]):
                ids += self._as_usual(waiting)
                waiting = ""
                ids += self._ordinary(self._stripped(pieces[index], before, after), before, restore)
            else:
                waiting += pieces[index]
            waiting += after or ""
        return ids + self._as_usual(waiting)

    def _as_usual(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False) if text else []

    def _stripped(self, text: str, before: str | None, after: str | None) -> str:
        """Without the blanks that the tokens beside it take, as some do."""
        if before is not None and self._added[before].rstrip:
            text = text.lstrip()
        if after is not None and self._added[after].lstrip:
            text = text.rstrip()
        return text

    def _ordinary(self, text: str, before: str | None, restore: Callable[[str], str]) -> list[int]:
        whole = restore(text)
        ids = self._without_control(whole, at_start=before is None)
        if any(self._tokenizer.token(each) in self._control for each in ids):
            # the model of the tokenizer has the token itself, as some of SentencePiece do
            ids = []
            for part in _cut(text, restore):
                ids += self._without_control(part, at_start=before is None and not ids)
        if any(self._tokenizer.token(each) in self._control for each in ids):
            raise InvalidParameterError(
                f"a message holds {whole[:60]!r}, which this tokenizer cannot encode as text"
            )
        return ids

    def _without_control(self, text: str, *, at_start: bool) -> list[int]:
        """Within a longer text, some tokenizers do not begin a text with a blank. So a token that
        is not in the text stands before it then."""
        head = next(chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in text)
        lean = self._lean.get(head)
        if lean is None:
            lean = self._lean[head] = self._make_lean(head)
        found = lean.encode(text if at_start else head + text, add_special_tokens=False)
        ids = (self._tokenizer.token_id(each) for each in found.tokens if each != head)
        return [each for each in ids if each is not None]

    def _make_lean(self, head: str) -> RawTokenizer:
        """A tokenizer with the same model that does not know the control tokens. The model is
        shared and not copied."""
        raw = self._tokenizer.raw
        lean = RawTokenizer(raw.model)
        if raw.normalizer is not None:
            lean.normalizer = raw.normalizer
        if raw.pre_tokenizer is not None:
            lean.pre_tokenizer = raw.pre_tokenizer
        others = [each for text, each in self._added.items() if text not in self._control]
        lean.add_special_tokens([AddedToken(head, special=True, normalized=False)])
        lean.add_tokens(others)
        return lean


def _cut(text: str, restore: Callable[[str], str]) -> list[str]:
    """The text in parts that end where `restore` changes something."""
    parts = [""]
    for character in text:
        own = restore(character)
        parts[-1] += own
        if own != character:
            parts.append("")
    return [part for part in parts if part]
