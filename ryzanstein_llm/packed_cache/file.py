"""One file of packed weights: its key, its owner, and its digests.

It is a `.safetensors` file whose tensors are 64-byte aligned and whose metadata have the key. Each
load checks what is quick to check: owner, permissions, header, sizes, key, and checksums of some
pieces. Digests of all bytes are computed when the file is written; `verify` compares them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable
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
from ..kernels.ternary_matrix import TERNARY_LAYOUT_VERSION
from .checksums import checksums, without_value
from .identity import is_packed_checkpoint, stamp_text
from .ownership import check_own, open_own
from .place import LOCK, cached_path
from .weights import ALIGNMENT, DTYPES, PackedWeights

__all__ = ["PackedFile", "data_digest", "key_of", "open_trusted"]

log = logging.getLogger(__name__)

SPARE_BYTES = 64 << 20  # left free on the disk
PAGE = 4096  # the data begin at a multiple of this


def key_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Metadata that must be equal for a file to be used. They include the version of the library,
    because another version may round master weights differently."""
    return {
        "format": "ryzanstein-llm packed weights 2",
        "library": __version__,
        "layouts": f"ternary {TERNARY_LAYOUT_VERSION}, screen {SCREEN_LAYOUT_VERSION}",
        "checkpoint_samples": checkpoint.sampled_digest(),
    }


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
        for name, value in key_of(self.checkpoint).items():
            found = file.metadata.get(name)
            if found != value:
                log.info("%s: out of date: %s is %r, now %r", self.path, name, found, value)
                return None
        if not is_packed_checkpoint(file, self.checkpoint):
            return None
        file.prefer_huge_pages()  # before the first tensor is read
        return PackedWeights(file)

    def write(self, packed: PackedWeights) -> None:
        """Replace the file by one with everything that `packed` keeps. The caller holds the lock.

        Raises
        ------
        OSError
            If that is not possible. Nothing is left behind then.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(self.path)
        if shutil.disk_usage(self.path.parent).free < packed.nbytes + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        plans = padded((_plan(name, array) for name, array in packed.kept.items()), ALIGNMENT)
        metadata = {
            **key_of(self.checkpoint),
            "checkpoint": str(self.checkpoint.path),
            "checkpoint_stamp": stamp_text(self.checkpoint),
            "checkpoint_content": "0" * 32,  # these are only known at the end
            "data_digest": "0" * 32,
        }
        metadata["checksums"] = json.dumps(
            {name: without_value(array.nbytes) for name, array in packed.kept.items()}
        )
        digest = hashlib.blake2b(digest_size=16)
        with NewFile(self.path, mode=self._mode()) as file, ThreadPoolExecutor(1) as helper:
            check_own(file.status())  # fails early on file systems without owners
            content = _begin(helper, self.checkpoint.content_digest)
            file.write(np.frombuffer(encode_header(plans, metadata, PAGE), np.uint8))

            def write(block: NDArray[np.uint8]) -> None:
                digest.update(block.data)
                file.write(block)

            write_data(plans, write)
            metadata["checkpoint_content"] = content()
            metadata["data_digest"] = digest.hexdigest()
            metadata["checksums"] = json.dumps(
                {name: checksums(array) for name, array in packed.kept.items()}
            )
            file.overwrite_start(encode_header(plans, metadata, PAGE))
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


def data_digest(file: SafetensorsFile) -> str:
    """The digest of the tensor data, in the form that metadata have."""
    digest = hashlib.blake2b(digest_size=16)
    for name in file.infos:
        digest.update(file.array(name).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _begin(helper: ThreadPoolExecutor, work: Callable[[], str]) -> Callable[[], str]:
    """Start the work in another thread; a function that waits for its result. Where the system
    refuses a thread, the work is done then."""
    try:
        return helper.submit(work).result
    except RuntimeError:  # "can't start new thread"
        return work


def _plan(name: str, array: NDArray[Any]) -> TensorPlan:
    return TensorPlan(name, DTYPES[array.dtype], array.shape, lambda: [array])
