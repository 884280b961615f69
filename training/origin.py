"""A checkpoint of float masters to begin a run with, instead of random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ryzanstein_llm.errors import TokenizerMissingError, UnsupportedModelError
from ryzanstein_llm.formats import Checkpoint, open_checkpoint
from ryzanstein_llm.models.bitnet import BitNetConfig
from ryzanstein_llm.models.weights import to_float32

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
    """Sizes of a checkpoint that `read_origin` would read.

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
        From opening it.
    """
    with open_checkpoint(path) as checkpoint:
        shape = _shape(checkpoint)
        if checkpoint.tokenizer_path is None:
            raise TokenizerMissingError(f"{path}: has no tokenizer.json")
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
        ids = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
        if ids != (BOS_ID, EOS_ID) or tokenizer.get_vocab_size() != shape.vocabulary:
            raise UnsupportedModelError(
                f"{checkpoint.tokenizer_path}: the recipe needs {BOS} and {EOS} as tokens {BOS_ID} "
                f"and {EOS_ID} of {shape.vocabulary}, not {ids} of {tokenizer.get_vocab_size()}"
            )
        weights = {
            name: _weight(checkpoint, name, tuple(parameter.shape))
            for name, parameter in BitNet(shape).state_dict().items()
        }
    return Origin(shape, weights, tokenizer)


def _shape(checkpoint: Checkpoint) -> Shape:
    config = BitNetConfig.from_checkpoint(checkpoint)
    for name, found, wanted in (
        ("hidden_act", config.activation, "relu2"),
        ("tie_word_embeddings", config.tied_head, True),
        ("head_dim", config.head_dim, config.hidden_size // config.n_heads),
    ):
        if found != wanted:
            raise UnsupportedModelError(
                f"{checkpoint.path}: config.json: {name} {found!r}: the recipe trains {wanted!r}"
            )
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


def _weight(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if is_projection(name) and name in checkpoint and checkpoint.info(name).dtype == "U8":
        raise UnsupportedModelError(
            f"{checkpoint.path}: tensor {name!r} is packed; training goes on from float masters, "
            "such as the folder bf16 of a run"
        )
    tensor = checkpoint.tensor(name, dtypes=MASTERS, shape=shape)
    return torch.from_numpy(to_float32(tensor).copy())
