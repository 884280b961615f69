"""How many characters a token can stand for. A text that cannot fit is then refused before it is
tokenised, which would take seconds and hundreds of megabytes for a few megabytes of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE

from .pipeline import BYTE_ALPHABET

__all__ = ["longest_token"]


def longest_token(raw: RawTokenizer) -> int | None:
    """The largest number of characters that one token can stand for; None if there is no limit.

    There is one if no step drops characters: the model is BPE over all bytes, no normaliser
    shortens the text, no pre-tokeniser removes anything, and no added token takes the blanks beside
    it. In the vocabulary, a character of a text is one character or more.
    """
    if not isinstance(raw.model, BPE) or any(
        token.lstrip or token.rstrip for token in raw.get_added_tokens_decoder().values()
    ):
        return None
    try:
        steps = [*_steps(raw.normalizer), *_steps(raw.pre_tokenizer)]
    except Exception:  # a step that is written in Python has no description
        return None
    if not all(map(_keeps_all, steps)):
        return None
    by_bytes = any(step.get("type") == "ByteLevel" for step in steps)
    names = BYTE_ALPHABET if by_bytes else [f"<0x{byte:02X}>" for byte in range(256)]
    if not (by_bytes or raw.model.byte_fallback):
        return None
    if any(raw.token_to_id(name) is None for name in names):
        return None
    return max(map(len, raw.get_vocab(with_added_tokens=True)))


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a normaliser or a pre-tokeniser."""
    if part is not None:
        yield from _flat(json.loads(part.__getstate__()))


def _flat(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    inner = step.get("normalizers", step.get("pretokenizers"))
    if inner is None:
        yield step
    else:
        for each in inner:
            yield from _flat(each)


def _keeps_all(step: Mapping[str, Any]) -> bool:
    kind = step.get("type")
    if kind in ("Split", "Punctuation"):
        return step.get("behavior") != "Removed"
    if kind == "Replace":
        pattern = step.get("pattern", {}).get("String", "")
        return 0 < len(pattern) <= len(step.get("content", ""))
    return kind in ("ByteLevel", "Metaspace", "Digits", "Prepend")
