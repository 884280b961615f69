"""Writing `.safetensors` files one tensor at a time, so that a file may exceed the memory."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..formats.dtypes import BITS

__all__ = ["TensorPlan", "write_safetensors", "write_shards"]


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to be written: `blocks()` yields its data in order, as arrays of any shape whose
    bytes add up to `nbytes`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    @property
    def nbytes(self) -> int:
        """Size in the file, in bytes."""
        elements = 1
        for size in self.shape:
            elements *= size
        return elements * BITS[self.dtype] // 8


def _on_disk_order(plans: Iterable[TensorPlan]) -> list[TensorPlan]:
    # As the safetensors library does: wide types first, so that every tensor is aligned.
    return sorted(plans, key=lambda plan: (-BITS[plan.dtype], plan.name))


def write_safetensors(
    path: Path,
    plans: Iterable[TensorPlan],
    *,
    metadata: Mapping[str, str] | None = None,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write the planned tensors to `path`, which appears only once it is complete.

    Parameters
    ----------
    metadata
        The header's `__metadata__`.
    written
        Called after each block with its number of bytes.

    Raises
    ------
    ValueError
        A plan yields another number of bytes than its shape takes.
    """
    plans = _on_disk_order(plans)
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
    encoded += b" " * (-len(encoded) % 8)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for plan in plans:
                count = 0
                for block in plan.blocks():
                    file.write(block.reshape(-1).data.cast("B"))
                    count += block.nbytes
                    if written is not None:
                        written(block.nbytes)
                if count != plan.nbytes:
                    raise ValueError(
                        f"{plan.name}: {count} bytes of data for {plan.dtype} {plan.shape}"
                    )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_shards(
    directory: Path,
    plans: Iterable[TensorPlan],
    count: int,
    *,
    metadata: Mapping[str, str] | None = None,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write `model.safetensors`, or `count` > 1 shards of about the same size and their index.

    Tensors go to the shards in the order given.

    Raises
    ------
    ValueError
        `count` is not between 1 and the number of tensors.
    """
    plans = list(plans)
    if not 1 <= count <= len(plans):
        raise ValueError(f"{count} shards for {len(plans)} tensors")
    if count == 1:
        write_safetensors(
            directory / "model.safetensors", plans, metadata=metadata, written=written
        )
        return
    total = sum(plan.nbytes for plan in plans)
    shards: list[list[TensorPlan]] = [[] for _ in range(count)]
    position, shard = 0, -1
    for index, plan in enumerate(plans):
        # By size, but no shard stays empty: none is skipped, and every later one gets a tensor.
        wanted = max(position * count // total, count - (len(plans) - index))
        shard = min(wanted, shard + 1)
        shards[shard].append(plan)
        position += plan.nbytes
    weight_map = {}
    for number, members in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        write_safetensors(directory / name, members, metadata=metadata, written=written)
        weight_map.update({plan.name: name for plan in members})
    index_json = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(
        json.dumps(index_json, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
