"""The state of the packed weights on disk."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from ..packed_cache.inventory import inventory

__all__ = ["packed_files"]


def packed_files(directory: Path | None) -> dict[str, Any] | None:
    """
    Returns
    -------
    dict or None
        directory; files: how many by state (see `CachedFile`); nbytes; writable; free: bytes free
        on its disk, or None if unknown. None if the cache is off.
    """
    if directory is None:
        return None
    files = list(inventory(directory))
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = None
    return {
        "directory": str(directory),
        "files": dict(Counter(file.state for file in files)),
        "nbytes": sum(file.nbytes for file in files),
        "writable": os.access(place, os.W_OK | os.X_OK),
        "free": free,
    }
