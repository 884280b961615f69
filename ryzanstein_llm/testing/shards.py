"""The weight files of a checkpoint: one, or several with an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..formats.dtypes import BITS
from ..formats.new_file import NewFile
from ..formats.safetensors_writer import TensorPlan, encode_header, write_data

__all__ = ["write_safetensors", "write_shards"]


def _on_disk_order(plans: Iterable[TensorPlan]) -> list[TensorPlan]:
    # Like the safetensors library: wide types first, so that every tensor is aligned.
    return sorted(plans, key=lambda plan: (-BITS[plan.dtype], plan.name))


def write_safetensors(
    path: Path,
    plans: Iterable[TensorPlan],
    *,
    metadata: Mapping[str, str] | None = None,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write the planned tensors to `path`. The file appears when it is complete.

    Parameters
    ----------
    metadata
        The header's `__metadata__`.
    written
        Called after each block with its number of bytes.

    Raises
    ------
    ValueError
        A plan yields a different number of bytes than its shape takes.
    """
    plans = _on_disk_order(plans)
    with NewFile(path, durable=False) as file:
        file.write(np.frombuffer(encode_header(plans, metadata), np.uint8))
        write_data(plans, file.write, written)


def write_shards(
    directory: Path,
    plans: Iterable[TensorPlan],
    count: int,
    *,
    metadata: Mapping[str, str] | None = None,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write `model.safetensors`, or `count` > 1 shards of about the same size and their index.

    Tensors go to the shards in the given order.

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
        # Cut by size, but leave no shard empty: skip none, and leave a tensor for each later one.
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
