"""Packed arrays by name, between the loader of a model and a cache file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..formats.safetensors_file import SafetensorsFile
from .checksums import is_damaged, read_checksums

__all__ = ["ALIGNMENT", "DTYPES", "ArrayPlan", "PackedFileError", "PackedWeights"]

ALIGNMENT = 64  # bytes, as kernels need it
DTYPES = {np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}  # and their names in a file


class PackedFileError(Exception):
    """An array of a cache file is not what was written. Nothing of that file may be used."""


class ArrayPlan(NamedTuple):
    """An array that a loader packs. `dtype` is a key of DTYPES."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


class PackedWeights:
    """What a loader asks for each array before it packs it.

    Parameters
    ----------
    file : SafetensorsFile, optional
        A cache file whose key fits. Without a file, nothing is found.
    """

    def __init__(self, file: SafetensorsFile | None = None) -> None:
        self._file = file
        self._checksums = {} if file is None else read_checksums(file.metadata)

    def has_all(self, arrays: Iterable[ArrayPlan]) -> bool:
        """Whether the file has arrays of all these names."""
        return self._file is not None and all(array.name in self._file.infos for array in arrays)

    def get(self, name: str, *, whole: bool = False) -> NDArray[Any] | None:
        """A read-only view of the mapped file, 64-byte aligned, or None if the file has no such
        array. The caller checks its shape.

        Parameters
        ----------
        whole : bool
            Check every byte of it. Otherwise some.

        Raises
        ------
        PackedFileError
            If it is damaged.
        """
        if self._file is None or name not in self._file.infos:
            return None
        dtype = self._file.infos[name].dtype
        if dtype not in DTYPES.values():
            self.refuse(name, f"its type cannot be {dtype}")
        found = self._file.array(name)
        if found.ctypes.data % ALIGNMENT:
            self.refuse(name, f"it does not begin at a multiple of {ALIGNMENT}")
        if is_damaged(found, self._checksums.get(name), whole=whole):
            self.refuse(name, "its checksum differs")
        return found

    def refuse(self, name: str, why: object) -> NoReturn:
        """Refuse the whole file, because an array that `get` returned does not fit. If one array is
        damaged, nothing speaks for the others.

        Raises
        ------
        PackedFileError
        """
        raise PackedFileError(f"{self._file and self._file.path}: {name}: {why}; packing again")

    def prefault(self) -> None:
        """Read the whole file into memory before it is needed (best effort)."""
        if self._file is not None:
            self._file.prefault()
