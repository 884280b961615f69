"""From the texts of a call to token ids, all checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from ..errors import ContextOverflowError, InvalidParameterError
from ..errors.request import LONGER_CONTEXT
from ..text.vocabulary import Vocabulary
from ..validation import check_token_ids

__all__ = ["read_texts"]


def read_texts(
    vocabulary: Vocabulary, texts: Any, prompt: str, context_length: int, *, truncate: bool
) -> list[list[int]]:
    """The ids of each text, at least one.

    Parameters
    ----------
    texts : iterable of (str or sequence of int)
        Special tokens are added to a text as the tokenizer says. Nothing is added to ids.
    prompt : str
        Stands in front of each text.
    context_length : int
        The largest number of ids of a text.
    truncate : bool
        Whether a longer text loses its end, except an end-of-text token.

    Raises
    ------
    InvalidParameterError, ContextOverflowError
        The message names the index.
    TokenizerMissingError, FormatError
    """
    found = []
    for index, text in enumerate(_items(texts)):
        name = f"texts[{index}]"
        ids = _ids(vocabulary, text, prompt, name)
        if not ids:
            raise InvalidParameterError("has no tokens, so there is nothing to embed", name)
        if len(ids) > context_length:
            if not truncate:
                reason = (
                    f"the text is too long; shorten it, pass truncate=True, or {LONGER_CONTEXT}"
                )
                raise ContextOverflowError(len(ids), context_length, reason).about(name)
            ends = ids[-1] in vocabulary.eos_ids
            ids = [*ids[: context_length - 1], ids[-1]] if ends else ids[:context_length]
        found.append(ids)
    return found


def _items(texts: Any) -> Iterable[Any]:
    # a str would pass for a list of characters, and sets have no order that the rows could have
    wrong = isinstance(texts, (str, bytes, bytearray, memoryview, Mapping, Set))
    if wrong or not isinstance(texts, Iterable):
        hint = "; for one text, put it into a list" if isinstance(texts, str) else ""
        problem = f"must be a list of str or of token ids, not {type(texts).__name__}{hint}"
        raise InvalidParameterError(problem, "texts")
    return texts


def _ids(vocabulary: Vocabulary, text: Any, prompt: str, name: str) -> list[int]:
    if not isinstance(text, str):
        ids = check_token_ids(name, text, vocabulary.size, or_text=True)
        if prompt:
            problem = "is token ids, and a prompt can only stand in front of a text"
            raise InvalidParameterError(problem, name)
        return ids
    try:
        ids = vocabulary.tokenize(prompt + text)
    except InvalidParameterError as error:
        raise InvalidParameterError(error.problem, name) from None
    tokenizer = vocabulary.tokenizer
    assert tokenizer is not None
    if tokenizer.adds_eos and ids[-1:] != [tokenizer.eos_id]:
        assert tokenizer.eos_id is not None
        ids.append(tokenizer.eos_id)
    return ids
