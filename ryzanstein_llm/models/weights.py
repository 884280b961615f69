"""Norms, biases, and embeddings of floats; and tensors that must not be there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from .arena import detached
from .plan import MatrixPlan, VectorPlan
from .projections import to_float32
from .stored_ternary import INFINITE, MAGNITUDE
from .untrained import warn_if_zero

__all__ = [
    "read_floats", "read_vector", "refuse_not_finite", "refuse_other_head", "refuse_unused",
]  # fmt: skip

COMPARED = 1 << 17  # weights looked at in one go: little memory, and within L2


def read_vector(checkpoint: Checkpoint, plan: VectorPlan) -> NDArray[np.float32]:
    """A norm's weights or a bias as float32 (size,).

    Raises
    ------
    FormatError
        It is missing, has another size, or a number is NaN or infinite.
    """
    values = to_float32(_take(checkpoint, plan.name, (plan.size,)))
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        file = checkpoint.info(plan.name).file
        raise FormatError(f"{file}: tensor {plan.name!r}: element {bad} is {values[bad]}")
    if plan.offset:
        values = values + np.float32(plan.offset)
    return values if plan.multiplier == 1 else values * np.float32(plan.multiplier)


def read_floats(checkpoint: Checkpoint, plan: MatrixPlan) -> Tensor:
    """An embedding or a head of floats in their stored dtype. Block types of GGUF are decoded to
    F32. Views stay valid; their pages are read when they are needed."""
    tensor = _take(checkpoint, plan.name, (plan.rows, plan.columns))
    checkpoint.release(plan.name)
    return tensor


def _take(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = detached(checkpoint.floats(name, shape=shape))
    warn_if_zero(checkpoint, name, tensor.array)
    return tensor


def refuse_not_finite(checkpoint: Checkpoint, tensor: Tensor) -> None:
    """Refuse an embedding or a head of floats with a weight that is NaN or infinite. What comes out
    of such a weight has other bits on other CPUs.

    Raises
    ------
    FormatError
    """
    step = max(1, COMPARED // tensor.array.shape[1])
    for begin in range(0, len(tensor.array), step):
        bits = _bits(tensor, begin, step)
        magnitudes = bits & bits.dtype.type(MAGNITUDE[tensor.dtype])
        if magnitudes.max() >= INFINITE[tensor.dtype]:
            row, column = np.argwhere(magnitudes >= INFINITE[tensor.dtype])[0]
            raise FormatError(
                f"{checkpoint.info(tensor.name).file}: tensor {tensor.name!r}: a weight is NaN or "
                f"infinite, the first in row {begin + row}, column {column}"
            )
    checkpoint.release(tensor.name)


def refuse_other_head(checkpoint: Checkpoint, embedding: Tensor) -> None:
    """Refuse a stored head that differs from the embedding that config.json ties it to.

    Raises
    ------
    FormatError
    """
    head = checkpoint.floats("lm_head.weight", shape=embedding.array.shape)
    rows = len(head.array)
    step = max(1, COMPARED // head.array.shape[1])
    same = head.dtype == embedding.dtype and all(
        np.array_equal(_bits(head, begin, step), _bits(embedding, begin, step))
        for begin in range(0, rows, step)
    )
    for tensor in (head, embedding):
        checkpoint.release(tensor.name)
    if not same:
        raise FormatError(
            f"{checkpoint.path}: config.json: tie_word_embeddings is true, but the stored "
            "lm_head.weight is not the embedding; should it be false?"
        )


def _bits(tensor: Tensor, begin: int, step: int) -> NDArray[Any]:
    return tensor.array[begin : begin + step].view(f"u{tensor.array.dtype.itemsize}")


def refuse_unused(checkpoint: Checkpoint, used: Collection[str], family: str) -> None:
    """Refuse tensors that the graph does not use. They mean that the model has another graph.

    Raises
    ------
    UnsupportedModelError
        The checkpoint holds a tensor whose name is not in `used`.
    """
    # a tied head that is stored a second time, and values that follow from the config
    harmless = ("lm_head.weight", ".rotary_emb.inv_freq")
    unused = [name for name in checkpoint.names if name not in used and not name.endswith(harmless)]
    if unused:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {len(unused)} tensors have no place in a {family} model, "
            f"the first is {unused[0]!r}"
        )
