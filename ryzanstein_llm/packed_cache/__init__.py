"""Packed weights kept on disk, so that the next start maps them instead of packing again.

Each checkpoint has one file, in the user's cache directory. All processes map the same file, so
they share one copy in memory. A file that is stale, damaged or owned by another user is not used,
but written again. If that fails, the model loads without it. If one array of a file is damaged,
none of it is used.

    place.py      where the files are: options, environment, names
    weights.py    PackedWeights: arrays by name, for the loader of a model
    file.py       PackedFile: its key, its checks, and how it is written
    background.py threads that write and read while weights are packed
    identity.py   whether a checkpoint is the one that was packed
    checksums.py  checksums of pieces of arrays
    ownership.py  whether another user can have written a file
    lock.py       one process packs, and the others wait for its file
    loading.py    loads a model through the cache
    inventory.py  the files of a cache: list, verify, clear
"""

from __future__ import annotations

from .file import BYTES_AHEAD
from .loading import LEAST_BYTES, keeps_file, load_through_cache
from .place import cache_directory
from .weights import PackedWeights

__all__ = [
    "BYTES_AHEAD",
    "LEAST_BYTES",
    "PackedWeights",
    "cache_directory",
    "keeps_file",
    "load_through_cache",
]
