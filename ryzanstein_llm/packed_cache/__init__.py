"""Packed weights kept on disk, so that the next start maps them instead of packing again.

One file a checkpoint, in the user's cache directory. Every process maps the same file, so they
share one copy of it in memory. A file that is stale, damaged or somebody else's is never read but
written anew; where that fails, the model loads all the same.

    place.py      where: options, environment, the name of the file
    weights.py    PackedWeights: arrays by name, as the loader of a model asks for them
    file.py       PackedFile: the key, what is checked, how it is written
    lock.py       one process packs, the others wait for its file
    loading.py    a load through the cache
    inventory.py  what is there: list, verify, clear
"""

from __future__ import annotations

from .loading import load_through_cache
from .place import cache_directory
from .weights import PackedWeights

__all__ = ["PackedWeights", "cache_directory", "load_through_cache"]
