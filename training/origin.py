"""A checkpoint of float masters to begin a run with, instead of random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ryzanstein_llm.errors import (
    FormatError,
    InvalidParameterError,
    TokenizerMissingError,
    UnsupportedModelError,
)
from ryzanstein_llm.formats import Checkpoint, open_checkpoint
from ryzanstein_llm.models.bitnet import read_bitnet_config
from ryzanstein_llm.models.projections import to_float32
from ryzanstein_llm.models.weights import refuse_unused

from .model import BitNet, is_projection
from .settings import Shape
from .vocabulary import BOS, BOS_ID, EOS, EOS_ID

__all__ = ["Origin", "read_origin", "read_shape"]

MASTERS = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Origin:
    """Weights in float32, by the names of the model's state, and the tokenizer they belong to."""

    shape: Shape
    weights: dict[str, torch.Tensor]
    tokenizer: Tokenizer


def read_shape(path: Path) -> Shape:
    """Sizes of a checkpoint, from its config alone.

    Raises
    ------
    UnsupportedModelError
        It is not of the kind that this recipe trains.
    CheckpointNotFoundError, FormatError
        From opening it.
    """
    with open_checkpoint(path) as checkpoint:
        return _shape(checkpoint)


def read_origin(path: Path) -> Origin:
    """Read a checkpoint of masters, such as `bf16/` of an earlier run.

    Raises
    ------
    UnsupportedModelError
        It is not of the kind that this recipe trains, or its weights are packed.
    TokenizerMissingError
        It has no `tokenizer.json`.
    CheckpointNotFoundError, FormatError
        A file is missing or damaged, or a weight is NaN or infinite.
    """
    with open_checkpoint(path) as checkpoint:
        shape = _shape(checkpoint)
        with torch.device("meta"):  # names and sizes only
            expected = BitNet(shape).state_dict()
        weights = {name: _weight(checkpoint, name, like) for name, like in expected.items()}
        refuse_unused(checkpoint, set(weights), "bitnet")
        return Origin(shape, weights, _tokenizer(checkpoint, shape.vocabulary))


def _shape(checkpoint: Checkpoint) -> Shape:
    config = read_bitnet_config(checkpoint)
    for name, found, wanted in (
        ("hidden_act", config.activation, "relu2"),
        ("tie_word_embeddings", config.tied_head, True),
        ("head_dim", config.head_dim, config.hidden_size // config.n_heads),
    ):
        if found != wanted:
            raise UnsupportedModelError(
                f"{checkpoint.path}: config.json: {name} {found!r}: the recipe trains {wanted!r}"
            )
    try:
        return Shape(
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            layers=config.n_layers,
            heads=config.n_heads,
            kv_heads=config.n_kv_heads,
            vocabulary=config.vocab_size,
            context=config.context_length,
            norm_eps=config.norm_eps,
            rope_theta=config.rope_theta,
        )
    except InvalidParameterError as error:
        raise UnsupportedModelError(f"{checkpoint.path}: config.json: {error}") from None


def _weight(checkpoint: Checkpoint, name: str, like: torch.Tensor) -> torch.Tensor:
    if is_projection(name) and checkpoint.info(name).dtype == "U8":
        raise UnsupportedModelError(
            f"{checkpoint.path}: tensor {name!r} is packed; training goes on from float masters, "
            "such as the folder bf16 of a run"
        )
    stored = to_float32(checkpoint.tensor(name, dtypes=MASTERS, shape=tuple(like.shape)))
    weight = torch.from_numpy(stored.copy())
    if not weight.isfinite().all():
        file = checkpoint.info(name).file
        raise FormatError(f"{file}: tensor {name!r}: a weight is NaN or infinite")
    return weight


def _tokenizer(checkpoint: Checkpoint, vocabulary: int) -> Tokenizer:
    path = checkpoint.tokenizer_path
    if path is None:
        raise TokenizerMissingError(f"{checkpoint.path}: has no tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise FormatError(f"{path}: not a readable tokenizer.json: {error}") from error
    ids = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    if ids != (BOS_ID, EOS_ID):
        raise UnsupportedModelError(
            f"{path}: {BOS} and {EOS} are the tokens {ids[0]} and {ids[1]}: the recipe trains with "
            f"{BOS_ID} and {EOS_ID}"
        )
    if sorted(tokenizer.get_vocab().values()) != list(range(vocabulary)):
        raise UnsupportedModelError(
            f"{path}: its {tokenizer.get_vocab_size()} tokens are not numbered as the {vocabulary} "
            "rows of the embedding"
        )
    tokenizer.no_truncation()  # texts are whole books
    return tokenizer
