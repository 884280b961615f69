"""The vocabulary of a GGUF file: tokens with their types, and what the file says about them.

Keys and token types: gguf-py/gguf/constants.py of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    types : list of int
        One for each token.
    metadata : mapping
        All pairs of the file.
    """

    source: str
    model: str
    tokens: list[str]
    types: list[int]
    metadata: Mapping[str, Any]

    def texts(self, key: str) -> list[str]:
        """The list of strings that a key holds."""
        return _array(self.metadata, self.source, key, str)

    def numbers(self, key: str) -> list[float]:
        """The numbers that a key holds, one for each token."""
        return _array(self.metadata, self.source, key, float, len(self.tokens))

    def flag(self, key: str, default: bool) -> bool:
        """What a key says; `default` if there is no such key."""
        value = self.metadata.get(PREFIX + key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.source}: {PREFIX}{key} is {value!r}, not true or false")
        return value

    def named_id(self, name: str) -> int | None:
        """The id that the key `name`_token_id holds; None if there is no such key."""
        key = f"{PREFIX}{name}_token_id"
        value = self.metadata.get(key)
        if value is None:
            # files for SentencePiece may leave out what its trainer gives these ids by default
            value = {"unknown": 0, "bos": 1, "eos": 2}.get(name) if self.model == "llama" else None
            return value if value is not None and value < len(self.tokens) else None
        if type(value) is not int or not 0 <= value < len(self.tokens):
            raise FormatError(
                f"{self.source}: {key} is {value!r}, but there are {len(self.tokens)} tokens"
            )
        return value

    def added(self) -> Iterator[tuple[str, int]]:
        """(token, type) of those that are found in a text before anything else."""
        for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            # converters filled ids that have no token with [PAD<id>], once as user-defined tokens
            if kind in (UNKNOWN, CONTROL, USER_DEFINED) and token != f"[PAD{token_id}]":
                yield token, kind


def read_vocabulary(metadata: Mapping[str, Any], source: str) -> GgufVocabulary:
    """The vocabulary in GGUF metadata. For the parameters, and errors, see
    `gguf_tokenizer.build_tokenizer`."""
    model = metadata.get(PREFIX + "model")
    if model is None:
        raise FormatError(f"{source}: {PREFIX}model is missing, so there is no tokenizer")
    if model not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"{source}: {PREFIX}model is {model!r}; only 'gpt2' and 'llama' can be read"
        )
    tokens = _array(metadata, source, "tokens", str)
    tokens = [token or f"[EMPTY_{token_id}]" for token_id, token in enumerate(tokens)]
    if len(set(tokens)) < len(tokens):
        first: dict[str, int] = {}
        for token_id, token in enumerate(tokens):
            if first.setdefault(token, token_id) != token_id:
                raise FormatError(
                    f"{source}: {PREFIX}tokens has {token!r} twice, as {first[token]} and "
                    f"{token_id}"
                )
    types = [NORMAL] * len(tokens)
    if PREFIX + "token_type" in metadata:
        types = _array(metadata, source, "token_type", int, len(tokens))
    return GgufVocabulary(source, model, tokens, types, metadata)


def _array(
    metadata: Mapping[str, Any], source: str, key: str, kind: type[Any], count: int | None = None
) -> list[Any]:
    """The array that a key holds as str, int or float: `count` items, or at least one."""
    value = metadata.get(PREFIX + key)
    if value is None:
        raise FormatError(f"{source}: {PREFIX}{key} is missing")
    if isinstance(value, np.ndarray):
        value = value.tolist()
    items = (int, float) if kind is float else kind
    if not isinstance(value, list) or not all(isinstance(item, items) for item in value):
        raise FormatError(f"{source}: {PREFIX}{key} is not a list of {kind.__name__}")
    if len(value) != count and (count is not None or not value):
        raise FormatError(
            f"{source}: {PREFIX}{key} has {len(value)} items"
            + ("" if count is None else f" for {count} tokens")
        )
    return value
