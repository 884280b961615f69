"""A load through the cache: from its file if that is good, else by packing, and writing it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..formats import Checkpoint
from .file import PackedFile
from .lock import exclusive
from .weights import PackedWeights

__all__ = ["LEAST_BYTES", "load_through_cache"]

log = logging.getLogger(__name__)

LEAST_BYTES = 32 << 20  # packing less takes no time worth a file
PATIENCE = 60.0  # seconds to wait for another process that is packing the same checkpoint

Graph = TypeVar("Graph")
Progress = Callable[[int, int, str], None]


def load_through_cache(
    checkpoint: Checkpoint,
    directory: Path | None,
    load: Callable[[PackedWeights, Progress | None], Graph],
    progress: Progress | None = None,
) -> tuple[Graph, Path | None]:
    """Load a model, from its file of packed weights where there is a good one.

    Otherwise the weights are packed, written to such a file, and taken from there, so that
    the first process shares its memory with those after it. Where that fails a warning says why,
    and the model keeps what was packed.

    Parameters
    ----------
    directory : Path or None
        Where files of packed weights are; None for no cache.
    load : callable (packed weights, progress) -> model
        Asks `packed` for each array it would pack otherwise, and tells it what it uses.

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
            if file.stamp() != stamp:  # another process has written it meanwhile
                packed = file.open()
        packed = packed or PackedWeights()
        graph = load(packed, progress)
        if packed.complete:
            log.info("%s: packed weights from %s", checkpoint.path, file.path)
        else:
            locked = locked or stack.enter_context(exclusive(file.lock_path, 0))
            mapped = _write(file, packed) if locked else None
            if mapped is None:
                return graph, None
            again = load(mapped, None)
            if not mapped.complete:
                return graph, None
            packed.forget()
            graph, packed = again, mapped
            del again
    packed.forget()
    packed.prefault()  # not before the packed copy is gone, or memory would hold both
    return graph, file.path


def _write(file: PackedFile, packed: PackedWeights) -> PackedWeights | None:
    """Write what was packed, and open it; None if it is not worth it or not possible."""
    if packed.nbytes < LEAST_BYTES:
        return None
    try:
        file.write(packed)
    except OSError as error:
        log.warning(
            "%s: packed weights not kept in %s: %s; the next start will pack them again",
            file.checkpoint.path,
            file.path.parent,
            error.strerror or error,
        )
        return None
    log.info("%s: packed weights written to %s", file.checkpoint.path, file.path)
    return file.open()
