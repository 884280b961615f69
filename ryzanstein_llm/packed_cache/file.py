"""One file of packed weights: its key, its owner, and its checksums.

It is a `.safetensors` file whose tensors are 64-byte aligned and whose metadata have the key. Each
load checks what is quick to check: owner, permissions, header, sizes, key, and checksums of some
pieces. `verify` compares the checksums of all pieces.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..errors import DiskSpaceError, RyzansteinError
from ..formats import Checkpoint
from ..formats.new_file import NewFile, remove_leftovers
from ..formats.safetensors_file import SafetensorsFile
from ..formats.safetensors_writer import (
    PADDING,
    TensorPlan,
    encode_header,
    padded,
    write_data,
)
from ..kernels.head import SCREEN_LAYOUT_VERSION
from ..kernels.ternary_matrix import TERNARY_LAYOUT_VERSION
from .background import Call, WriteBehind
from .checksums import checksums, is_damaged, read_checksums, without_value
from .identity import is_packed_checkpoint, stamp_text
from .ownership import check_own, open_own
from .place import LOCK, cached_path
from .weights import ALIGNMENT, DTYPES, ArrayPlan, PackedWeights

__all__ = ["PackedFile", "is_whole", "open_trusted", "why_stale"]

log = logging.getLogger(__name__)

SPARE_BYTES = 64 << 20  # left free on the disk
PAGE = 4096  # the data begin at a multiple of this
BYTES_AHEAD = 32 << 20  # packed, and waiting to be written


def key_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Metadata that must be equal for a file to be used. They include the version of the library,
    because another version may round master weights differently."""
    return {
        "format": "ryzanstein-llm packed weights 2",
        "library": __version__,
        "layouts": f"ternary {TERNARY_LAYOUT_VERSION}, screen {SCREEN_LAYOUT_VERSION}",
        "checkpoint_samples": checkpoint.sampled_digest(),
    }


def why_stale(metadata: Mapping[str, str], checkpoint: Checkpoint) -> str:
    """Which part of the key differs, for people. Empty if the keys are equal."""
    key = key_of(checkpoint)
    differs = [name for name, value in key.items() if metadata.get(name) != value]
    if "library" in differs:
        version = metadata.get("library", "unknown")
        return f"packed by version {version} of this library, which is now {__version__}"
    if differs == ["checkpoint_samples"]:
        return "the checkpoint has changed since it was packed"
    return "packed by another build of this library" if differs else ""


class PackedFile:
    """The file of one checkpoint in a cache directory. It may or may not exist."""

    def __init__(self, checkpoint: Checkpoint, directory: Path) -> None:
        self.checkpoint = checkpoint
        self.path = cached_path(directory, checkpoint.files[0])
        self.lock_path = self.path.with_name(self.path.name + LOCK)

    def stamp(self) -> tuple[int, ...] | None:
        """A value that changes when the file is replaced; None if there is no file."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def open(self) -> PackedWeights | None:
        """The weights in the file. None, with a log message, if it cannot be used."""
        if self.stamp() is None:
            return None
        try:
            file = open_trusted(self.path)
        except RyzansteinError as error:
            log.warning("packed weights not used: %s", error)
            return None
        if why := why_stale(file.metadata, self.checkpoint):
            log.info("%s: out of date: %s", self.path, why)
            return None
        if not is_packed_checkpoint(file, self.checkpoint):
            return None
        file.prefer_huge_pages()  # before the first tensor is read
        return PackedWeights(file)

    def write(self, plans: Sequence[ArrayPlan], arrays: Iterator[NDArray[Any]]) -> None:
        """Replace the file by one of these arrays. The caller holds the lock.

        Arrays are written while the next ones are packed. At the same time the checkpoint is read
        for its digest.

        Parameters
        ----------
        arrays : iterator
            The arrays of `plans`, in that order. Each is freed when it is written.

        Raises
        ------
        OSError
            If that is not possible. Nothing is left behind then.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(self.path)
        size = sum(plan.nbytes for plan in plans)
        if shutil.disk_usage(self.path.parent).free < size + SPARE_BYTES:
            raise DiskSpaceError(str(self.path), os.strerror(errno.ENOSPC), errno.ENOSPC)
        found = {plan.name: without_value(plan.nbytes) for plan in plans}

        def take(plan: ArrayPlan) -> Iterator[NDArray[Any]]:
            array = next(arrays)
            found[plan.name] = checksums(array)
            yield array

        tensors = padded((_tensor(plan, take) for plan in plans), ALIGNMENT)
        metadata = {
            **key_of(self.checkpoint),
            "checkpoint": str(self.checkpoint.path),
            "checkpoint_stamp": stamp_text(self.checkpoint),
            "checkpoint_content": "0" * 32,  # this and the checksums are only known at the end
            "checksums": json.dumps(found),
        }
        with NewFile(self.path, mode=self._mode()) as file:
            check_own(file.status())  # fails early on file systems without owners
            content = Call(self.checkpoint.content_digest)
            file.write(np.frombuffer(encode_header(tensors, metadata, PAGE), np.uint8))
            with WriteBehind(file.write, BYTES_AHEAD) as behind:
                write_data(tensors, behind.write)
            metadata["checkpoint_content"] = content.result()
            metadata["checksums"] = json.dumps(found)
            file.overwrite_start(encode_header(tensors, metadata, PAGE))
            if not self.checkpoint.is_unchanged():
                raise OSError(errno.ESTALE, "changed while it was read", str(self.checkpoint.path))

    def _mode(self) -> int:
        """Other users may read the file if they may read the checkpoint."""
        everybody = all(path.stat().st_mode & stat.S_IROTH for path in self.checkpoint.files)
        return 0o644 if everybody else 0o600


def open_trusted(path: Path) -> SafetensorsFile:
    """Map a cache file that only this user, or root, can have written.

    Raises
    ------
    RyzansteinError
        If another user could have written it, if it is a link or not a regular file, or if its
        format is wrong.
    """
    return SafetensorsFile(path, opener=open_own, confirm=False)


def is_whole(file: SafetensorsFile) -> bool:
    """Whether every byte of every array is what was written, by their checksums."""
    expected = read_checksums(file.metadata)
    names = {name for name in file.infos if not name.startswith(PADDING)}
    return names == set(expected) and not any(
        file.infos[name].dtype not in DTYPES.values()
        or is_damaged(file.array(name), expected[name], whole=True)
        for name in names
    )


def _tensor(plan: ArrayPlan, take: Callable[[ArrayPlan], Iterator[NDArray[Any]]]) -> TensorPlan:
    return TensorPlan(plan.name, DTYPES[plan.dtype], plan.shape, lambda: take(plan))
