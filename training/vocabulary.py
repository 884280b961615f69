"""Byte-level BPE, trained on the texts that the model will be trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["BOS", "BOS_ID", "EOS", "EOS_ID", "byte_lengths", "encode", "tokenizer_config", "train"]

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
BOS_ID, EOS_ID = 0, 1


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of at most `size` tokens: BOS (0), EOS (1), 256 bytes, merges.

    It reads any text back exactly. A small corpus, in which no pair is left that occurs twice,
    gives fewer tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # By paragraph: the trainer holds the pieces of one text at a time.
    tokenizer.train_from_iterator(
        (line for text in texts for line in text.splitlines(keepends=True)), trainer
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer


def tokenizer_config(context: int) -> dict[str, Any]:
    """The contents of `tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "add_bos_token": True,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """Ids of each text, without BOS and EOS."""
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in found]


def byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes that each id stands for, shape (vocabulary,); none for BOS and EOS."""
    lengths = np.zeros(tokenizer.get_vocab_size(), np.int64)
    for token, number in tokenizer.get_vocab().items():
        # In a byte-level vocabulary every character of a token is one byte.
        lengths[number] = 0 if number in (BOS_ID, EOS_ID) else len(token)
    return lengths
