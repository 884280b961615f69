"""Files that are overwritten while something views their mapping."""

from __future__ import annotations

import logging
import mmap
import os
import weakref
from pathlib import Path

from ..errors import CheckpointChangedError
from .mapped_file import FileStamp

__all__ = ["Watch"]

log = logging.getLogger(__name__)


class Watch:
    """Looks at one mapped file. It does not keep the mapping alive: when the last view of it is
    gone, nothing depends on the file any more.

    Parameters
    ----------
    path : Path
    stamp : FileStamp
        When it was mapped.
    mapping : mmap
    """

    def __init__(self, path: Path, stamp: FileStamp, mapping: mmap.mmap) -> None:
        self._path, self._stamp = os.fspath(path), stamp
        self._mapping = weakref.ref(mapping)

    def check(self) -> None:
        """Call it before the views are read.

        Raises
        ------
        CheckpointChangedError
            If the file has another size now. If it is shorter, reading would end the process. A
            file of the same size that was written to, or only touched, is named in a warning, once.
            A file that was replaced by another one does no harm.
        """
        if self._mapping() is None:
            return
        try:
            now = FileStamp.of(os.stat(self._path))
        except OSError:  # deleted: the mapping keeps its content
            return
        if now.inode != self._stamp.inode or now[:2] == self._stamp[:2]:
            return
        if now.size != self._stamp.size:
            raise CheckpointChangedError(
                f"{self._path}: had {self._stamp.size} bytes when the model was opened, and has "
                f"{now.size} now; open the model again, and replace files by renaming"
            )
        log.warning(
            "%s: written to since the model was opened; if its bytes have changed, so have the "
            "weights: open the model again, and replace files by renaming",
            self._path,
        )
        self._stamp = now
