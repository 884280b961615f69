"""Packed arrays by name, between the loader of a model and a cache file."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..formats.safetensors_file import SafetensorsFile
from .checksums import is_damaged, read_checksums

__all__ = ["ALIGNMENT", "DTYPES", "PackedFileError", "PackedWeights"]

ALIGNMENT = 64  # bytes, as kernels need it
DTYPES = {np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}  # and their names in a file


class PackedFileError(Exception):
    """An array of a cache file is not what was written. Nothing of that file may be used."""


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
        self._checksums = {} if file is None else read_checksums(file.metadata)
        self._found: dict[str, NDArray[Any]] = {}
        self.kept: dict[str, NDArray[Any]] = {}
        self.missing: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the file has an array of this name."""
        return self._file is not None and name in self._file.infos

    def get(self, name: str) -> NDArray[Any] | None:
        """A read-only view of the mapped file, 64-byte aligned, or None if the file has no such
        array. Some of its bytes have been checked. The caller checks its shape.

        Raises
        ------
        PackedFileError
            If it is damaged.
        """
        if self._file is None or name not in self._file.infos:
            self.missing.append(name)
            return None
        dtype = self._file.infos[name].dtype
        if dtype not in DTYPES.values():
            self.refuse(name, f"its type cannot be {dtype}")
        found = self._file.array(name)
        if found.ctypes.data % ALIGNMENT:
            self.refuse(name, f"it does not begin at a multiple of {ALIGNMENT}")
        if is_damaged(found, self._checksums.get(name), whole=False):
            self.refuse(name, "its checksum differs")
        self._found[name] = found
        return found

    def refuse(self, name: str, why: object) -> NoReturn:
        """Refuse the whole file, because an array that `get` returned does not fit. If one array is
        damaged, nothing speaks for the others.

        Raises
        ------
        PackedFileError
        """
        raise PackedFileError(f"{self._file and self._file.path}: {name}: {why}; packing again")

    def check_whole(self) -> None:
        """Check every byte of the arrays that `get` has returned, before they are written again.

        Raises
        ------
        PackedFileError
        """
        for name, array in self._found.items():
            if is_damaged(array, self._checksums.get(name), whole=True):
                self.refuse(name, "its checksum differs")

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array that the model uses, whether it was found or packed."""
        self.kept[name] = array

    @property
    def stored(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

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
        self._found.clear()

    def prefault(self) -> None:
        """Read the whole file into memory before it is needed (best effort)."""
        if self._file is not None:
            self._file.prefault()
