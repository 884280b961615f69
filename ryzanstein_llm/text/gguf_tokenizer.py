"""A tokenizer from the metadata of a GGUF file, with the ids of the original `tokenizer.json`.

GGUF keeps the vocabulary and names the algorithm (`tokenizer.ggml.model`). Two are built here, as
objects of the `tokenizers` library:

- ``gpt2``: byte-level BPE. Merges are in the file, and `tokenizer.ggml.pre` names how a text is cut
  into words (`pretokenizers.py`).
- ``llama``: BPE of SentencePiece (`sentencepiece.py`). Scores stand for merges.

Keys and token types: gguf-py/gguf/constants.py of llama.cpp. Behaviour: its src/llama-vocab.cpp.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, decoders, normalizers
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from ..errors import FormatError, UnsupportedModelError
from .library import library_errors
from .pretokenizers import PRETOKENIZERS, Words
from .sentencepiece import merges_of_scores

__all__ = ["build_tokenizer", "end_ids", "tokenizer_config"]

log = logging.getLogger(__name__)

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)

# A text ends at these tokens too, because a file names only one or two. From llama.cpp's list.
_END_TOKENS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
    "<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
)


@dataclass(frozen=True)
class _Vocabulary:
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
        return self.metadata.get(_PREFIX + key)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise FormatError(f"{self.source}: {_PREFIX}{key} is {value!r}, not true or false")
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
                f"{self.source}: {_PREFIX}{key} is {value!r}, but there are "
                f"{len(self.tokens)} tokens"
            )
        return value

    def added(self) -> Iterator[tuple[str, int]]:
        """(token, type) of those that are found in a text before anything else."""
        for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=False)):
            # converters filled ids that have no token with [PAD<id>], once as user-defined tokens
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and token != f"[PAD{token_id}]":
                yield token, kind


def build_tokenizer(metadata: Mapping[str, Any], source: str) -> RawTokenizer:
    """The tokenizer that GGUF metadata describes.

    Parameters
    ----------
    metadata : mapping
        Keys and values as in the file; arrays as sequences of str, int or float.
    source : str
        The file, for messages.

    Returns
    -------
    tokenizers.Tokenizer
        With `add_special_tokens`, it adds the tokens that the file asks for.

    Raises
    ------
    UnsupportedModelError
        The algorithm or the pre-tokenizer is not known, or a vocabulary of SentencePiece has no
        scores that tell merges apart.
    FormatError
        A key is missing, or what it holds is not a vocabulary.
    """
    vocabulary = _read(metadata, source)
    words = _words(vocabulary) if vocabulary.model == "gpt2" else None
    with library_errors(source):
        raw = _byte_level(vocabulary, words) if words is not None else _sentencepiece(vocabulary)
        added = list(vocabulary.added())
        raw.add_tokens(
            [AddedToken(token, normalized=False) for token, kind in added if kind == _USER_DEFINED]
        )
        raw.add_special_tokens(
            [AddedToken(token, normalized=False) for token, kind in added if kind != _USER_DEFINED]
        )
        add_bos = words.add_bos if words is not None else True
        _add_ends(raw, vocabulary, add_bos)
    return raw


def tokenizer_config(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What `tokenizer_config.json` says of the same tokenizer: `bos_token`, `eos_token`,
    `unk_token`, `pad_token` and `chat_template`, those that there are. Raises what
    `build_tokenizer` raises."""
    vocabulary = _read(metadata, source)
    config: dict[str, Any] = {}
    for key, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token_id = vocabulary.named_id(name)
        if token_id is not None:
            config[f"{key}_token"] = vocabulary.tokens[token_id]
    template = metadata.get("tokenizer.chat_template")
    if template is not None:
        config["chat_template"] = template
    return config


def end_ids(metadata: Mapping[str, Any], source: str) -> tuple[int, ...]:
    """Ids of the tokens that end a text, or a turn of a chat: those that keys name, and control
    tokens that are known for it. Raises what `build_tokenizer` raises."""
    vocabulary = _read(metadata, source)
    named = [vocabulary.named_id(name) for name in ("eos", "eot", "eom")]
    known = [
        token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token in _END_TOKENS and vocabulary.types[token_id] in (_CONTROL, _USER_DEFINED)
    ]
    return tuple(dict.fromkeys([*(one for one in named if one is not None), *known]))


def _read(metadata: Mapping[str, Any], source: str) -> _Vocabulary:
    model = metadata.get(_PREFIX + "model")
    if model is None:
        raise FormatError(f"{source}: there is no {_PREFIX}model, so there is no tokenizer")
    if model not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"{source}: {_PREFIX}model is {model!r}; only 'gpt2' and 'llama' can be read"
        )
    tokens = metadata.get(_PREFIX + "tokens")
    if tokens is None or not len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise FormatError(f"{source}: {_PREFIX}tokens is not a list of strings")
    tokens = [token or f"[EMPTY_{token_id}]" for token_id, token in enumerate(tokens)]
    if len(set(tokens)) < len(tokens):
        first: dict[str, int] = {}
        for token_id, token in enumerate(tokens):
            if first.setdefault(token, token_id) != token_id:
                raise FormatError(
                    f"{source}: {_PREFIX}tokens has {token!r} twice, as {first[token]} and {token_id}"
                )
    types = metadata.get(_PREFIX + "token_type")
    if types is None:
        types = [_NORMAL] * len(tokens)
    elif len(types) < len(tokens):
        raise FormatError(
            f"{source}: {_PREFIX}token_type has {len(types)} values for {len(tokens)} tokens"
        )
    return _Vocabulary(source, model, tokens, types, metadata)


def _words(vocabulary: _Vocabulary) -> Words:
    """The pre-tokenizer of a byte-level vocabulary."""
    name = vocabulary.get("pre")
    if name is None and vocabulary.tokens[128000:128001] == ["<|begin_of_text|>"]:
        # Microsoft's BitNet b1.58 2B4T: the vocabulary is that of Llama 3
        log.warning("%s: %spre is missing; the tokens are those of Llama 3", vocabulary.source, _PREFIX)
        name = "llama-bpe"
    if name is None:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {_PREFIX}pre is missing, so it is not known how texts are cut "
            "into words; convert the model again with a current llama.cpp"
        )
    words = PRETOKENIZERS.get(name) if isinstance(name, str) else None
    if words is None:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {_PREFIX}pre is {name!r}, a pre-tokenizer that is not known here"
        )
    return words


def _byte_level(vocabulary: _Vocabulary, words: Words) -> RawTokenizer:
    merges = vocabulary.get("merges")
    if merges is None:
        raise FormatError(f"{vocabulary.source}: {_PREFIX}merges is missing")
    pairs: dict[tuple[str, str], None] = {}  # of equal merges, the first counts
    for index, merge in enumerate(merges):
        left, space, right = merge.partition(" ")
        if not (left and space and right):
            raise FormatError(
                f"{vocabulary.source}: {_PREFIX}merges[{index}] is {merge!r}, not two tokens"
            )
        pairs[left, right] = None
    vocab = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    raw = RawTokenizer(BPE(vocab=vocab, merges=list(pairs), ignore_merges=words.whole_words))
    if words.nfc:
        raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = words.pre_tokenizer()
    raw.decoder = decoders.ByteLevel()
    return raw


def _sentencepiece(vocabulary: _Vocabulary) -> RawTokenizer:
    scores = vocabulary.get("scores")
    if scores is None or len(scores) < len(vocabulary.tokens):
        raise FormatError(
            f"{vocabulary.source}: {_PREFIX}scores has {0 if scores is None else len(scores)} "
            f"values for {len(vocabulary.tokens)} tokens"
        )
    pieces = {
        token: float(score)
        for token, score, kind in zip(vocabulary.tokens, scores, vocabulary.types, strict=False)
        if kind not in (_UNKNOWN, _CONTROL, _BYTE)
    }
    if len(pieces) > 1 and len(set(pieces.values())) == 1:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {_PREFIX}scores are all equal, so merges are not known; "
            "convert the model again, with its tokenizer.model"
        )
    unknown = vocabulary.named_id("unknown")
    raw = RawTokenizer(
        BPE(
            vocab={token: token_id for token_id, token in enumerate(vocabulary.tokens)},
            merges=merges_of_scores(pieces),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.flag("add_space_prefix", True):
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        raw.normalizer = spaces
    raw.decoder = decoders.Sequence(steps)
    return raw


def _add_ends(raw: RawTokenizer, vocabulary: _Vocabulary, add_bos: bool) -> None:
    """What stands before and after a text."""
    template, special = ["$A"], {}
    for name, wanted, at in (
        ("bos", vocabulary.flag("add_bos_token", add_bos), 0),
        ("eos", vocabulary.flag("add_eos_token", False), 1),
    ):
        token_id = vocabulary.named_id(name) if wanted else None
        if token_id is not None:
            token = vocabulary.tokens[token_id]
            special[token] = token_id
            template.insert(at * len(template), token)
    if special:
        raw.post_processor = TemplateProcessing(
            single=template, special_tokens=list(special.items())
        )
