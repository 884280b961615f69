"""Loads a model through the cache: from a file of packed weights, or by packing and writing one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from ..formats import Checkpoint
from .file import PackedFile
from .lock import exclusive
from .weights import ArrayPlan, PackedFileError, PackedWeights

__all__ = ["LEAST_BYTES", "Loader", "keeps_file", "load_through_cache"]

log = logging.getLogger(__name__)

LEAST_BYTES = 32 << 20  # packing less is too quick to be worth a file
PATIENCE = 60.0  # seconds to wait for another process that is packing the same checkpoint

Graph = TypeVar("Graph")
Built = TypeVar("Built", covariant=True)
Progress = Callable[[int, int, str], None]


class Loader(Protocol[Built]):
    """What loads a model; see `models.loader.DecoderLoader`."""

    @property
    def arrays(self) -> Sequence[ArrayPlan]: ...
    def pack(
        self, packed: PackedWeights, progress: Progress | None = None
    ) -> Iterator[NDArray[Any]]: ...
    def build(
        self, packed: PackedWeights | None = None, progress: Progress | None = None
    ) -> Built: ...


def keeps_file(directory: Path | None, nbytes: int) -> bool:
    """Whether so many bytes of packed weights are kept in a file of this directory."""
    return directory is not None and directory.is_absolute() and nbytes >= LEAST_BYTES


def load_through_cache(
    checkpoint: Checkpoint,
    directory: Path | None,
    loader: Loader[Graph],
    progress: Progress | None = None,
) -> tuple[Graph, Path | None]:
    """Load a model from its file of packed weights, if there is a good one.

    Otherwise such a file is written, and the model is then loaded from it, as in every later start.
    Each array is packed, written and freed, so packed weights are in memory once, as pages of that
    file, which processes share. If the file cannot be written, a warning says why, and the weights
    are packed into memory.

    Parameters
    ----------
    directory : Path or None
        The directory for files of packed weights; None for no cache.
    loader : Loader

    Returns
    -------
    (model, file that its weights are mapped from, or None)
    """
    if directory is not None and not directory.is_absolute():
        log.warning("%s: no home directory to keep packed weights in", checkpoint.path)
    if not keeps_file(directory, sum(array.nbytes for array in loader.arrays)):
        return loader.build(progress=progress), None
    assert directory is not None
    file = PackedFile(checkpoint, directory)
    stamp, packed = file.stamp(), file.open()
    graph, packed = _from_file(file, packed, loader, progress)
    if graph is not None:
        return graph, file.path
    with exclusive(file.lock_path, PATIENCE if packed is None else 0) as locked:
        if file.stamp() != stamp:  # another process has written it in the meantime
            graph, packed = _from_file(file, file.open(), loader, progress)
        if graph is None and locked and _write(file, packed, loader, progress):
            packed = None  # whose file may be another one, and must not stay in memory
            graph, packed = _from_file(file, file.open(), loader, None)
    if graph is not None:
        return graph, file.path
    try:
        return loader.build(packed, progress), None
    except PackedFileError as error:
        log.warning("%s", error)
    return loader.build(progress=progress), None


def _from_file(
    file: PackedFile,
    packed: PackedWeights | None,
    loader: Loader[Graph],
    progress: Progress | None,
) -> tuple[Graph | None, PackedWeights | None]:
    """(the model if the file has all of its arrays, what of the file can be used)"""
    if packed is None or not packed.has_all(loader.arrays):
        return None, packed
    try:
        graph = loader.build(packed, progress)
    except PackedFileError as error:
        log.warning("%s", error)
        return None, None
    packed.prefault()
    log.info("%s: packed weights from %s", file.checkpoint.path, file.path)
    return graph, packed


def _write(
    file: PackedFile,
    packed: PackedWeights | None,
    loader: Loader[Any],
    progress: Progress | None,
) -> bool:
    """Write all arrays of the loader to the file. Those that `packed` has are written again. False
    if that is not possible."""
    try:
        try:
            file.write(loader.arrays, loader.pack(packed or PackedWeights(), progress))
        except PackedFileError as error:
            log.warning("%s", error)
            file.write(loader.arrays, loader.pack(PackedWeights(), progress))
    except (OSError, MemoryError) as error:
        log.warning(
            "%s: packed weights not kept in %s: %s; the next start will pack them again",
            file.checkpoint.path,
            file.path.parent,
            getattr(error, "problem", None) or getattr(error, "strerror", None) or error,
        )
        return False
    log.info("%s: packed weights written to %s", file.checkpoint.path, file.path)
    return True
