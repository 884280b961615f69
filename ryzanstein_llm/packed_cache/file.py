"""One file of packed weights: whose it is, what it is for, and that it is whole.

It is a `.safetensors` file, every tensor 64-byte aligned, whose metadata hold the key. What is
checked at each load costs nothing: owner, permissions, header, sizes, key. Digests of all bytes
are taken when it is written, and compared by `verify`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..errors import RyzansteinError
from ..formats import Checkpoint
from ..formats.new_file import NewFile, remove_leftovers
from ..formats.safetensors_file import SafetensorsFile
from ..formats.safetensors_writer import TensorPlan, encode_header, padded, write_data
from ..kernels.head import SCREEN_LAYOUT_VERSION
from ..kernels.linear import TERNARY_LAYOUT_VERSION
from .place import LOCK, cached_path
from .weights import ALIGNMENT, DTYPES, PackedWeights

__all__ = ["PackedFile", "data_digest", "key_of", "open_trusted"]

log = logging.getLogger(__name__)

SPARE_BYTES = 64 << 20  # of the disk are left free
PAGE = 4096  # where the data begin


def key_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Metadata that have to be equal for a file to be used. Not only layouts: another version
    of the library may round master weights differently."""
    return {
        "format": "ryzanstein-llm packed weights 1",
        "library": __version__,
        "layouts": f"ternary {TERNARY_LAYOUT_VERSION}, screen {SCREEN_LAYOUT_VERSION}",
        "checkpoint_digest": checkpoint.digest(),
    }


class PackedFile:
    """The file of one checkpoint in a cache directory, which may be there or not."""

    def __init__(self, checkpoint: Checkpoint, directory: Path) -> None:
        self.checkpoint = checkpoint
        self.path = cached_path(directory, checkpoint.files[0])
        self.lock_path = self.path.with_name(self.path.name + LOCK)

    def stamp(self) -> tuple[int, ...] | None:
        """What changes when the file is replaced; None if there is none."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def open(self) -> PackedWeights | None:
        """What the file holds; None, and a log message, where it is not to be used."""
        if self.stamp() is None:
            return None
        try:
            file = open_trusted(self.path)
        except RyzansteinError as error:
            log.warning("packed weights not used: %s", error)
            return None
        for name, value in key_of(self.checkpoint).items():
            found = file.metadata.get(name)
            if found != value:
                log.info("%s: out of date: %s is %r, now %r", self.path, name, found, value)
                return None
        file.prefer_huge_pages()  # before the first tensor is looked at
        return PackedWeights(file)

    def write(self, packed: PackedWeights) -> None:
        """Replace the file by one with all that `packed` keeps. Hold the lock.

        Raises
        ------
        OSError
            If that is not possible; nothing is left behind then.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(self.path)
        if shutil.disk_usage(self.path.parent).free < packed.nbytes + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        plans = padded((_plan(name, array) for name, array in packed.kept.items()), ALIGNMENT)
        metadata = {
            **key_of(self.checkpoint),
            "checkpoint": str(self.checkpoint.path),
            "checkpoint_content": "0" * 32,  # these two are known when all is written
            "data_digest": "0" * 32,
        }
        digest = hashlib.blake2b(digest_size=16)
        with NewFile(self.path, mode=self._mode()) as file, ThreadPoolExecutor(1) as helper:
            _check_own(file.status())  # some file systems know no owners: then do not begin
            content = helper.submit(self.checkpoint.content_digest)
            file.write(np.frombuffer(encode_header(plans, metadata, PAGE), np.uint8))

            def write(block: NDArray[np.uint8]) -> None:
                digest.update(block.data)
                file.write(block)

            write_data(plans, write)
            metadata["checkpoint_content"] = content.result()
            metadata["data_digest"] = digest.hexdigest()
            file.overwrite_start(encode_header(plans, metadata, PAGE))
            if not self.checkpoint.is_unchanged():
                raise OSError(errno.ESTALE, "changed while it was read", str(self.checkpoint.path))

    def _mode(self) -> int:
        """Others may read it if they may read the checkpoint."""
        everybody = all(path.stat().st_mode & stat.S_IROTH for path in self.checkpoint.files)
        return 0o644 if everybody else 0o600


def open_trusted(path: Path) -> SafetensorsFile:
    """Map a cache file that only this user, or root, can have written.

    Raises
    ------
    RyzansteinError
        If it is somebody else's, a link, no file, or not what the format says.
    """
    return SafetensorsFile(path, opener=_open_own, confirm=False)


def _open_own(path: str, flags: int) -> int:
    # Links are not followed, and a FIFO is not waited for.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        _check_own(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_own(status: os.stat_result) -> None:
    """Raises OSError unless only this user or root can have written the file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if hasattr(os, "geteuid"):  # POSIX
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, f"owned by user {status.st_uid}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "writable by other users")


def data_digest(file: SafetensorsFile) -> str:
    """The digest of the tensor data, read from the mapping, as metadata hold it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in file.infos:
        digest.update(file.array(name).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plan(name: str, array: NDArray[Any]) -> TensorPlan:
    return TensorPlan(name, DTYPES[array.dtype], array.shape, lambda: [array])
