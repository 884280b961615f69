"""Loads a model through the cache: from a file of packed weights, or by packing and writing one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..formats import Checkpoint
from .file import PackedFile
from .lock import exclusive
from .weights import PackedFileError, PackedWeights

__all__ = ["LEAST_BYTES", "load_through_cache"]

log = logging.getLogger(__name__)

LEAST_BYTES = 32 << 20  # packing less is too quick to be worth a file
PATIENCE = 60.0  # seconds to wait for another process that is packing the same checkpoint

Graph = TypeVar("Graph")
Progress = Callable[[int, int, str], None]


def load_through_cache(
    checkpoint: Checkpoint,
    directory: Path | None,
    load: Callable[[PackedWeights, Progress | None], Graph],
    progress: Progress | None = None,
) -> tuple[Graph, Path | None]:
    """Load a model from its file of packed weights, if there is a good one.

    Otherwise the weights are packed, written to such a file, and mapped from it, so that the first
    process shares its memory with later ones. If the file cannot be written, a warning says why,
    and the model keeps the weights that were packed in memory.

    Parameters
    ----------
    directory : Path or None
        The directory for files of packed weights; None for no cache.
    load : callable (packed weights, progress) -> model
        Asks `packed` for each array before packing it, and tells it which arrays it uses.

    Returns
    -------
    (model, file that its weights are mapped from, or None)
    """
    if directory is not None and not directory.is_absolute():
        log.warning("%s: no home directory to keep packed weights in", checkpoint.path)
        directory = None
    size = sum(checkpoint.info(name).nbytes for name in checkpoint.names)
    if directory is None or size < LEAST_BYTES:
        return load(PackedWeights(), progress), None
    file = PackedFile(checkpoint, directory)
    stamp, packed = file.stamp(), file.open()
    with contextlib.ExitStack() as stack:
        locked = False
        if packed is None:
            locked = stack.enter_context(exclusive(file.lock_path, PATIENCE))
            if file.stamp() != stamp:  # another process has written it in the meantime
                packed = file.open()
        graph, packed = _load(load, packed or PackedWeights(), progress)
        if packed.complete:
            log.info("%s: packed weights from %s", checkpoint.path, file.path)
        else:
            locked = locked or stack.enter_context(exclusive(file.lock_path, 0))
            mapped = _write(file, packed) if locked else None
            if mapped is None:
                return graph, None
            again, mapped = _load(load, mapped, None)
            if not mapped.complete:
                return graph, None
            packed.forget()
            graph, packed = again, mapped
            del again
    packed.forget()
    packed.prefault()  # only after the packed copy is freed, or memory would hold both
    return graph, file.path


def _load(
    load: Callable[[PackedWeights, Progress | None], Graph],
    packed: PackedWeights,
    progress: Progress | None,
) -> tuple[Graph, PackedWeights]:
    """The model, and where its arrays come from: `packed`, or nothing if its file is refused."""
    try:
        graph = load(packed, progress)
        if packed.missing:  # what was found will be written again, with new digests
            packed.check_whole()
        return graph, packed
    except PackedFileError as error:
        log.warning("%s", error)
    empty = PackedWeights()
    return load(empty, progress), empty


def _write(file: PackedFile, packed: PackedWeights) -> PackedWeights | None:
    """Write the packed weights to the file, and open it. None if that is not possible, or if they
    are too small to be worth a file."""
    if packed.nbytes < LEAST_BYTES:
        return None
    try:
        file.write(packed)
    except (OSError, MemoryError) as error:
        log.warning(
            "%s: packed weights not kept in %s: %s; the next start will pack them again",
            file.checkpoint.path,
            file.path.parent,
            getattr(error, "strerror", None) or error,
        )
        return None
    log.info("%s: packed weights written to %s", file.checkpoint.path, file.path)
    return file.open()
