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
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, decoders, normalizers
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from ..errors import FormatError, UnsupportedModelError
from .gguf_vocabulary import (
    BYTE,
    CONTROL,
    PREFIX,
    UNKNOWN,
    USER_DEFINED,
    GgufVocabulary,
    read_vocabulary,
)
from .library import LibraryErrors
from .pretokenizers import PRETOKENIZERS, Words
from .sentencepiece import merges_of_scores

__all__ = ["build_tokenizer", "end_ids", "tokenizer_config"]

log = logging.getLogger(__name__)

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
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)


def build_tokenizer(metadata: Mapping[str, Any], source: str) -> RawTokenizer:
    """The tokenizer that GGUF metadata describes.

    Parameters
    ----------
    metadata : mapping
        Keys and values as in the file. Arrays are lists, or of numbers NumPy arrays.
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
    vocabulary = read_vocabulary(metadata, source)
    words = _words(vocabulary) if vocabulary.model == "gpt2" else None
    with LibraryErrors(source):
        raw = _byte_level(vocabulary, words) if words is not None else _sentencepiece(vocabulary)
        added = list(vocabulary.added())
        raw.add_tokens(
            [AddedToken(token, normalized=False) for token, kind in added if kind == USER_DEFINED]
        )
        raw.add_special_tokens(
            [AddedToken(token, normalized=False) for token, kind in added if kind != USER_DEFINED]
        )
        add_bos = words.add_bos if words is not None else True
        _add_ends(raw, vocabulary, add_bos)
    return raw


def tokenizer_config(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What `tokenizer_config.json` says of the same tokenizer: `bos_token`, `eos_token`,
    `unk_token`, `pad_token` and `chat_template`, those that there are. Raises what
    `build_tokenizer` raises."""
    vocabulary = read_vocabulary(metadata, source)
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
    vocabulary = read_vocabulary(metadata, source)
    named = [vocabulary.named_id(name) for name in ("eos", "eot", "eom")]
    known = [
        token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token in _END_TOKENS and vocabulary.types[token_id] in (CONTROL, USER_DEFINED)
    ]
    return tuple(dict.fromkeys([*(one for one in named if one is not None), *known]))


def _words(vocabulary: GgufVocabulary) -> Words:
    """The pre-tokenizer of a byte-level vocabulary."""
    name = vocabulary.metadata.get(PREFIX + "pre")
    if name is None and vocabulary.tokens[128000:128001] == ["<|begin_of_text|>"]:
        # Microsoft's BitNet b1.58 2B4T: the vocabulary is that of Llama 3
        log.warning(
            "%s: %spre is missing; the tokens are those of Llama 3", vocabulary.source, PREFIX
        )
        name = "llama-bpe"
    if name is None:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {PREFIX}pre is missing, so it is not known how texts are cut "
            "into words; convert the model again with a current llama.cpp"
        )
    words = PRETOKENIZERS.get(name) if isinstance(name, str) else None
    if words is None:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {PREFIX}pre is {name!r}, a pre-tokenizer that is not known here"
        )
    return words


def _byte_level(vocabulary: GgufVocabulary, words: Words) -> RawTokenizer:
    pairs: dict[tuple[str, str], None] = {}  # of equal merges, the first counts
    for index, merge in enumerate(vocabulary.texts("merges")):
        left, space, right = merge.partition(" ")
        if not (left and space and right):
            raise FormatError(
                f"{vocabulary.source}: {PREFIX}merges[{index}] is {merge!r}, not two tokens"
            )
        pairs[left, right] = None
    vocab = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    raw = RawTokenizer(BPE(vocab=vocab, merges=list(pairs), ignore_merges=words.whole_words))
    if words.nfc:
        raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = words.pre_tokenizer()
    raw.decoder = decoders.ByteLevel()
    return raw


def _sentencepiece(vocabulary: GgufVocabulary) -> RawTokenizer:
    scores = vocabulary.numbers("scores")
    for token_id, score in enumerate(scores):
        if score != score:
            raise FormatError(f"{vocabulary.source}: {PREFIX}scores[{token_id}] is {score}")
    pieces = {
        token: score
        for token, score, kind in zip(vocabulary.tokens, scores, vocabulary.types, strict=True)
        if kind not in (UNKNOWN, CONTROL, BYTE)
    }
    if len(pieces) > 1 and len(set(pieces.values())) == 1:
        raise UnsupportedModelError(
            f"{vocabulary.source}: {PREFIX}scores are all equal, so merges are not known; "
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


def _add_ends(raw: RawTokenizer, vocabulary: GgufVocabulary, add_bos: bool) -> None:
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
