"""Packed arrays by name, between the loader of a model and a cache file."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.safetensors_file import SafetensorsFile

__all__ = ["ALIGNMENT", "DTYPES", "PackedWeights"]

log = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes, as kernels need it
DTYPES = {np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}  # and their names in a file


class PackedWeights:
    """A loader asks it for each array before packing, and tells it which arrays it uses.

    Parameters
    ----------
    file : SafetensorsFile, optional
        A cache file whose key fits. Without a file, nothing is found.

    Attributes
    ----------
    kept : dict[str, array]
        Every array that the model uses, in the order of the calls of `keep`: uint8 or float32.
    missing : list[str]
        Names that were asked for and not found.
    """

    def __init__(self, file: SafetensorsFile | None = None) -> None:
        self._file = file
        self.kept: dict[str, NDArray[Any]] = {}
        self.missing: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the file has an array of this name."""
        return self._file is not None and name in self._file.infos

    def get(self, name: str) -> NDArray[Any] | None:
        """A read-only view of the mapped file, 64-byte aligned, or None. The caller checks its
        shape."""
        info = None if self._file is None else self._file.infos.get(name)
        if self._file is not None and info is not None and info.dtype in DTYPES.values():
            found = self._file.array(name)
            if found.ctypes.data % ALIGNMENT == 0:
                return found
        self.missing.append(name)
        return None

    def refuse(self, name: str, why: object) -> None:
        """Count an array that `get` returned as missing, because it does not fit."""
        log.warning("%s: %s: %s; packing again", self._file and self._file.path, name, why)
        self.missing.append(name)

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array that the model uses, whether it was found or packed."""
        self.kept[name] = array

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for was found."""
        return self._file is not None and not self.missing

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return sum(array.nbytes for array in self.kept.values())

    def forget(self) -> None:
        """Release the arrays. The model that uses them keeps them alive."""
        self.kept.clear()

    def prefault(self) -> None:
        """Read the whole file into memory before it is needed (best effort)."""
        if self._file is not None:
            self._file.prefault()
