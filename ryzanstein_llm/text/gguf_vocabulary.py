"""The vocabulary of a GGUF file: tokens with their types, and what the file says about them.

Keys and token types: gguf-py/gguf/constants.py of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError, UnsupportedModelError

__all__ = [
    "BYTE",
    "CONTROL",
    "PREFIX",
    "UNKNOWN",
    "USER_DEFINED",
    "GgufVocabulary",
    "read_vocabulary",
]

PREFIX = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class GgufVocabulary:
    """The tokens of a file, checked.

    Attributes
    ----------
    source : str
        The file, for messages.
    model : str
        "gpt2" or "llama".
    tokens : list of str
        By id, none of them twice.
    types : sequence of int
        One for each token.
    metadata : mapping
    """

    source: str
    model: str
    tokens: list[str]
    types: Sequence[int]
    metadata: Mapping[str, Any]

    def get(self, key: str) -> Any:
        return self.metadata.get(PREFIX + key)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise FormatError(f"{self.source}: {PREFIX}{key} is {value!r}, not true or false")
        return value

    def named_id(self, name: str) -> int | None:
        """The id that the key `name`_token_id holds; None if there is no such key."""
        key = f"{name}_token_id"
        value = self.get(key)
        if value is None:
            # files for SentencePiece may leave out what its trainer gives these ids by default
            value = {"unknown": 0, "bos": 1, "eos": 2}.get(name) if self.model == "llama" else None
            if value is None or value >= len(self.tokens):
                return None
        if not isinstance(value, int) or not 0 <= value < len(self.tokens):
            raise FormatError(
                f"{self.source}: {PREFIX}{key} is {value!r}, but there are "
                f"{len(self.tokens)} tokens"
            )
        return value

    def added(self) -> Iterator[tuple[str, int]]:
        """(token, type) of those that are found in a text before anything else."""
        for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=False)):
            # converters filled ids that have no token with [PAD<id>], once as user-defined tokens
            if kind in (UNKNOWN, CONTROL, USER_DEFINED) and token != f"[PAD{token_id}]":
                yield token, kind


def read_vocabulary(metadata: Mapping[str, Any], source: str) -> GgufVocabulary:
    model = metadata.get(PREFIX + "model")
    if model is None:
        raise FormatError(f"{source}: there is no {PREFIX}model, so there is no tokenizer")
    if model not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"{source}: {PREFIX}model is {model!r}; only 'gpt2' and 'llama' can be read"
        )
    tokens = metadata.get(PREFIX + "tokens")
    if tokens is None or not len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise FormatError(f"{source}: {PREFIX}tokens is not a list of strings")
    tokens = [token or f"[EMPTY_{token_id}]" for token_id, token in enumerate(tokens)]
    if len(set(tokens)) < len(tokens):
        first: dict[str, int] = {}
        for token_id, token in enumerate(tokens):
            if first.setdefault(token, token_id) != token_id:
                raise FormatError(
                    f"{source}: {PREFIX}tokens has {token!r} twice, as {first[token]} and "
                    f"{token_id}"
                )
    types = metadata.get(PREFIX + "token_type")
    if types is None:
        types = [NORMAL] * len(tokens)
    elif len(types) < len(tokens):
        raise FormatError(
            f"{source}: {PREFIX}token_type has {len(types)} values for {len(tokens)} tokens"
        )
    return GgufVocabulary(source, model, tokens, types, metadata)
