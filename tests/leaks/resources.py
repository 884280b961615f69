"""What a process holds: memory, threads, descriptors and Python objects. Needs Linux with glibc."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from typing import NamedTuple


class Resources(NamedTuple):
    """
    Attributes
    ----------
    memory : int
        Resident bytes, after free memory was given back to the system.
    threads, descriptors : int
    objects : int
        What Python's collector knows: containers, and instances of classes.
    blocks : int
        Pieces of memory that Python has allocated, for objects of every kind.
    """

    memory: int
    threads: int
    descriptors: int
    objects: int
    blocks: int

    @classmethod
    def now(cls) -> Resources:
        for _ in range(3):  # what one collection frees may lead to more
            gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return cls(
            memory=pages * resource.getpagesize(),
            threads=len(os.listdir("/proc/self/task")),
            descriptors=len(os.listdir("/proc/self/fd")),
            objects=len(gc.get_objects()),
            blocks=sys.getallocatedblocks(),
        )

    def since(self, before: Resources) -> Resources:
        """How much more of each there is."""
        return Resources(*(now - then for now, then in zip(self, before, strict=True)))
