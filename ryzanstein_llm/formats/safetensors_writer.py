"""Writes `.safetensors` files one tensor at a time, so that a file may be larger than memory."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dtypes import BITS

__all__ = ["PADDING", "TensorPlan", "encode_header", "padded", "write_data"]

PADDING = "padding."  # how the names of tensors begin that only fill gaps


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to be written. `blocks()` yields its data in order, as arrays of any shape, with
    `nbytes` bytes in all."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    @property
    def nbytes(self) -> int:
        """Size in the file, in bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


def padded(plans: Iterable[TensorPlan], align: int) -> list[TensorPlan]:
    """The plans, with tensors of zeros (`padding.0`, `padding.1`...) between them, so that each
    begins at a multiple of `align` bytes. The format allows no gaps."""
    result: list[TensorPlan] = []
    for index, plan in enumerate(plans):
        result.append(plan)
        missing = -plan.nbytes % align
        if missing:
            zeros = [np.zeros(missing, np.uint8)]
            result.append(TensorPlan(f"{PADDING}{index}", "U8", (missing,), zeros.copy))
    return result


def encode_header(
    plans: Sequence[TensorPlan], metadata: Mapping[str, str] | None = None, align: int = 8
) -> bytes:
    """The bytes before the data of `plans`, filled up with spaces to a multiple of `align`."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for plan in plans:
        end = position + plan.nbytes
        header[plan.name] = {
            "dtype": plan.dtype,
            "shape": list(plan.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-(8 + len(encoded)) % align)
    return struct.pack("<Q", len(encoded)) + encoded


def write_data(
    plans: Iterable[TensorPlan],
    write: Callable[[NDArray[np.uint8]], object],
    written: Callable[[int], None] | None = None,
) -> None:
    """Pass the data of the plans to `write`, block by block, as flat bytes.

    Parameters
    ----------
    written
        Called after each block with its number of bytes.

    Raises
    ------
    ValueError
        A plan yields another number of bytes than its shape takes.
    """
    for plan in plans:
        count = 0
        for block in plan.blocks():
            write(block.reshape(-1).view(np.uint8))
            count += block.nbytes
            if written is not None:
                written(block.nbytes)
            del block  # it may be freed while the next one is made
        if count != plan.nbytes:
            raise ValueError(f"{plan.name}: {count} bytes of data for {plan.dtype} {plan.shape}")
