"""Text to token ids and back, with the checkpoint's own tokenizer. Knows no models."""

from __future__ import annotations

import json
import logging
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding
from tokenizers import Tokenizer as RawTokenizer

from ..errors import InvalidParameterError
from ..formats.json_file import read_text
from .apart import interruptible
from .gguf_tokenizer import build_tokenizer, tokenizer_config
from .library import LibraryErrors, lacks_threads
from .longest_token import longest_token
from .pipeline import TextPipeline, is_byte, token_bytes
from .tokenizer_file import check_tokenizer

if TYPE_CHECKING:
    from ..formats import Checkpoint

__all__ = ["TextStream", "Tokenizer"]

log = logging.getLogger(__name__)

# so many of the last tokens say how a text goes on, or more if they begin within a run of bytes
_TOKENS_BEFORE = 32

LONG_TEXT = 1 << 16  # characters; a longer text takes a noticeable time

_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """Encodes and decodes with one `tokenizer.json`, or what a GGUF file has in its place. Several
    threads may use it at once.

    Attributes
    ----------
    vocab_size : int
        Number of tokens, including added ones. The model's vocabulary may be larger (padding).
    bos_id, eos_id : int or None
        The ids of the tokens that `tokenizer_config.json` names; None if it names none.
    adds_eos : bool
        Whether `tokenizer_config.json` says `add_eos_token`. `encode` leaves that to the file's
        post-processor, because a prompt goes on; whoever wants whole texts has to look at it.
    config : mapping
        The content of `tokenizer_config.json`; {} if there is none.
    """

    def __init__(
        self, raw: RawTokenizer, config: Mapping[str, Any] | None = None, *, source: str = "memory"
    ) -> None:
        """
        Parameters
        ----------
        raw : tokenizers.Tokenizer
            Is changed: its truncation and padding are switched off, because a prompt
            that is too long must be an error, not a shorter prompt. What draws random tokens
            in training (dropout of BPE, sampling of Unigram) is switched off too.
        config : mapping, optional
            `tokenizer_config.json`; `bos_token`, `eos_token` and `add_bos_token` are used.
        source : str
            The origin of the tokenizer, for messages.
        """
        raw.no_truncation()
        raw.no_padding()
        for setting in ("dropout", "alpha", "nbest_size"):
            if getattr(raw.model, setting, None) is not None:
                setattr(raw.model, setting, None)
        self._raw = raw
        self._source = source
        self._errors = LibraryErrors(source)
        with self._errors:
            # The JSON of the decoder alone; `to_str` would write the whole vocabulary.
            decoder = raw.decoder
            self._decoder_spec: Mapping[str, Any] | None = (
                None if decoder is None else json.loads(decoder.__getstate__())
            )
            TextPipeline(self._decoder_spec)  # fails now rather than in the middle of a text
            added = raw.get_added_tokens_decoder().values()
            self._special = frozenset(token.content for token in added if token.special)
            self.vocab_size: int = raw.get_vocab_size(with_added_tokens=True)
        self.config: Mapping[str, Any] = config or {}
        config = self.config
        self.bos_id = self._named_id(config, "bos_token")
        self.eos_id = self._named_id(config, "eos_token")
        self.adds_eos = bool(config.get("add_eos_token", False)) and self.eos_id is not None
        self._add_bos = bool(config.get("add_bos_token", False)) and self.bos_id is not None

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Tokenizer | None:
        """The tokenizer of a checkpoint, or None if it has no `tokenizer.json`, nor a tokenizer in
        the metadata of a GGUF file.

        Raises
        ------
        FormatError
            The file cannot be read or is not a tokenizer.
        UnsupportedModelError
            The metadata describe a tokenizer of another kind.
        """
        if checkpoint.metadata is not None:
            # llama.cpp has both names for a file without a vocabulary
            if checkpoint.metadata.get("tokenizer.ggml.model", "none") in ("none", "no_vocab"):
                return None
            return cls.from_gguf(checkpoint.metadata, str(checkpoint.path))
        if checkpoint.tokenizer_path is None:
            return None
        return cls.from_file(checkpoint.tokenizer_path, checkpoint.tokenizer_config)

    @classmethod
    def from_file(cls, path: str | Path, config: Mapping[str, Any] | None = None) -> Tokenizer:
        """Read `tokenizer.json`; `config` is the content of `tokenizer_config.json`.

        Raises
        ------
        FormatError
            The file is not a tokenizer, or has a value with which `tokenizers` would end the
            process (`check_tokenizer`).
        CheckpointNotFoundError, ResourceLimitError
            It cannot be read.
        """
        # not from_file, which wants a path in UTF-8 and calls every failure the same
        text = read_text(Path(path))
        with LibraryErrors(str(path)):
            check_tokenizer(text, str(path))
            raw = RawTokenizer.from_str(text)
        return cls(raw, config, source=str(path))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], source: str) -> Tokenizer:
        """The tokenizer that the metadata of a GGUF file describes. For the parameters, and errors,
        see `gguf_tokenizer.build_tokenizer`."""
        raw = build_tokenizer(metadata, source)
        return cls(raw, tokenizer_config(metadata, source), source=source)

    def __repr__(self) -> str:
        return f"Tokenizer({self._source!r}, vocab_size={self.vocab_size})"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`.

        Special tokens that are written in `text` (`<|end_of_text|>`) are recognised,
        because chat templates need that. With `add_special_tokens`, the post-processor of
        the file adds its tokens, usually a beginning-of-sequence token. If it adds none
        and `tokenizer_config.json` says `add_bos_token`, the token is added here.

        Raises
        ------
        InvalidParameterError
            `text` is not a str, or has a lone surrogate, which UTF-8 cannot encode.
        FormatError
            The tokenizer contradicts itself.
        """
        first, later = self._both(text)
        return self._look_at(first if add_special_tokens else later)

    def encode_prompt(self, text: str) -> tuple[list[int], list[int]]:
        """What `encode` gives with and without special tokens. The text is tokenised once."""
        first, later = self._both(text)
        return self._look_at(first), later

    def _look_at(self, ids: list[int]) -> list[int]:
        if self.bos_id is not None and ids[:2] == [self.bos_id] * 2:
            log.warning("the prompt begins with two beginning-of-sequence tokens")
        return ids

    def _both(self, text: str) -> tuple[list[int], list[int]]:
        if not isinstance(text, str):
            raise InvalidParameterError(f"must be a str, not {type(text).__name__}", "text")
        surrogate = _SURROGATE.search(text)
        if surrogate is not None:
            raise InvalidParameterError(
                f"is not valid Unicode: lone surrogate {surrogate[0]!a} at index "
                f"{surrogate.start()}",
                "text",
            )
        with self._errors:
            encoded = self._encoded(text)
            later: list[int] = encoded.ids
            first: list[int] = self._raw.post_process(encoded, add_special_tokens=True).ids
        if self._add_bos and first[:1] != [self.bos_id]:
            assert self.bos_id is not None
            first.insert(0, self.bos_id)
        return first, later

    def _encoded(self, text: str) -> Encoding:
        if len(text) < LONG_TEXT:
            return self._raw.encode(text, add_special_tokens=False)
        # unlike `encode`, this releases the GIL, and it keeps no offsets
        work = partial(self._raw.encode_batch_fast, [text], add_special_tokens=False)
        try:
            found: list[Encoding] = interruptible(work)
        except BaseException as error:
            if not lacks_threads(error):
                raise
            return self._raw.encode(text, add_special_tokens=False)
        return found[0]

    def fewest_ids(self, text: str) -> int:
        """A number of ids that `encode` gives at least. It takes no longer for a longer text."""
        if len(text) < LONG_TEXT:
            return 0
        with self._errors:
            longest = self._longest
        return 0 if longest is None else -(-len(text) // longest)

    @cached_property
    def _longest(self) -> int | None:
        return longest_token(self._raw)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, made by the decoder of the file.

        Bytes that are not UTF-8 become U+FFFD. Ids without a token give no text.
        `clean_up_tokenization_spaces` is not applied, because it loses text.

        Raises
        ------
        InvalidParameterError
            An id is not an integer, is negative, or does not fit 32 bits.
        FormatError
            The tokenizer contradicts itself.
        """
        checked = [_check_id(token_id) for token_id in ids]
        with self._errors:
            text: str = self._raw.decode(checked, skip_special_tokens=skip_special_tokens)
        return text

    def stream(
        self,
        *,
        skip_special_tokens: bool = True,
        before: Sequence[int] = (),
        shown: Collection[str] = (),
    ) -> TextStream:
        """A new incremental `decode` for one text, or for what comes after the ids `before`.
        Special tokens that are `shown` are not skipped."""
        return TextStream(self, skip_special_tokens=skip_special_tokens, before=before, shown=shown)

    @property
    def raw(self) -> RawTokenizer:
        """The tokenizer of the `tokenizers` library. Do not change it."""
        return self._raw

    def token_id(self, token: str) -> int | None:
        """The id of a token with this exact spelling in the file, or None."""
        if _SURROGATE.search(token) is not None:  # no token has one
            return None
        token_id: int | None = self._raw.token_to_id(token)
        return token_id

    def token(self, token_id: int) -> str | None:
        """The spelling of a token in the file (bytes in the file's own alphabet), or None."""
        token: str | None = self._raw.id_to_token(_check_id(token_id))
        return token

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for within a text, which may be a part of a character; of a
        special token, its spelling. Empty for an id without a token."""
        token = self.token(token_id)
        if token is None or self.is_special(token):
            return (token or "").encode("utf-8")
        with self._errors:
            return token_bytes(self._decoder_spec, token)

    def is_special(self, token: str) -> bool:
        """Whether `decode` leaves this token out by default."""
        return token in self._special

    def _named_id(self, config: Mapping[str, Any], key: str) -> int | None:
        named = config.get(key)
        if isinstance(named, Mapping):  # older files have a whole AddedToken here
            named = named.get("content")
        return self.token_id(named) if isinstance(named, str) else None


class TextStream:
    """Ids in, text out, one token at a time. Made by `Tokenizer.stream()`.

    `''.join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids)` for
    every sequence of ids, in time proportional to the text. No piece ends within a
    character.

    After other ids, it is the rest of `decode(before + ids)` after `decode(before)`. A character
    that has begun in `before` belongs to the text in which it ends. If `before` ends with bytes
    that are judged anew together with those that follow, what it gave stays.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special_tokens: bool = True,
        before: Sequence[int] = (),
        shown: Collection[str] = (),
    ) -> None:
        self._tokenizer, self._errors = tokenizer, tokenizer._errors
        self._skip_special, self._shown = skip_special_tokens, shown
        start = max(0, len(before) - _TOKENS_BEFORE)
        while start and is_byte(self._token(before[start]) or ""):
            start -= 1
        last = (self._token(token_id) for token_id in before[start:])
        with self._errors:
            self._pipeline = TextPipeline(
                tokenizer._decoder_spec, [token for token in last if token is not None]
            )

    def push(self, token_id: int) -> str:
        """The text that is certain now; often empty. Raises what `Tokenizer.decode` raises."""
        token = self._token(token_id)
        if token is None:
            return ""
        with self._errors:
            return self._pipeline.push(token)

    def flush(self) -> str:
        """The rest of the text; incomplete bytes become U+FFFD. Call it once, after the last id."""
        with self._errors:
            return self._pipeline.flush()

    def _token(self, token_id: int) -> str | None:
        """The token if it has a text."""
        token = self._tokenizer.token(token_id)
        if token is None or token in self._shown:
            return token
        return None if self._skip_special and self._tokenizer.is_special(token) else token


def _check_id(token_id: int) -> int:
    try:
        value = operator.index(token_id)
    except TypeError:
        raise InvalidParameterError(f"must be an integer, not {token_id!r}", "token_id") from None
    if not 0 <= value < 2**32:
        raise InvalidParameterError(f"must be in 0..{2**32 - 1}, not {value}", "token_id")
    return value
