"""Loads a decoder as its plan says: packs its weights, or takes them as they were packed before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats import Checkpoint, Tensor
from ..kernels.head import ScreenedHead
from ..kernels.memory import HUGE_PAGE, zeros
from ..kernels.packing import aligned_empty, screen_shapes
from ..kernels.ternary_matrix import TernaryMatrix
from ..packed_cache.weights import ArrayPlan, PackedWeights
from .arena import Arena
from .base import LoadOptions
from .decoder import Decoder
from .layers import build_decoder
from .matrices import Allocate, MatrixPacker
from .plan import DecoderPlan, MatrixPlan
from .room import refuse_too_large
from .untrained import warn_if_alike
from .weights import (
    read_floats,
    read_vector,
    refuse_not_finite,
    refuse_other_head,
    refuse_unused,
)

__all__ = ["DecoderLoader"]

Progress = Callable[[int, int, str], None]


class DecoderLoader:
    """A decoder that is about to be loaded. Everything but the data of ternary matrices has been
    read and checked, so what is wrong with the rest is said before anything is packed.

    Parameters
    ----------
    checkpoint : Checkpoint
    plan : DecoderPlan
    options : LoadOptions

    Raises
    ------
    FormatError, UnsupportedModelError
        See `models.prepare_model`. `build` and `pack` raise them too, for what only packing finds.
    """

    def __init__(self, checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions) -> None:
        self._checkpoint, self._plan, self._options = checkpoint, plan, options
        self._packer = MatrixPacker(checkpoint, plan, options.n_threads)
        self._ternary = [matrix for matrix in plan.matrices if matrix.layout is not None]
        for matrix in self._ternary:
            self._packer.read(matrix)
        self._vectors = {vector: read_vector(checkpoint, vector) for vector in plan.vectors}
        for matrix in self._ternary:  # some rows were looked at, and neighbours of vectors
            checkpoint.release(matrix.name)
        floats = [matrix for matrix in plan.matrices if matrix.layout is None]
        for matrix in floats:
            checkpoint.info(matrix.name)  # before it is said that others have no place
        names = {matrix.name for matrix in floats} | {vector.name for vector in self._vectors}
        refuse_unused(checkpoint, names | self._packer.used, plan.description.family)
        self._floats = {matrix: read_floats(checkpoint, matrix) for matrix in floats}
        if plan.head is None and plan.embedding in self._floats and "lm_head.weight" in checkpoint:
            refuse_other_head(checkpoint, self._floats[plan.embedding])

    @property
    def arrays(self) -> list[ArrayPlan]:
        """What `pack` gives: the screen of the head, and codes and scale of each ternary matrix.
        The largest ones come first, so that they are written while others are packed."""
        screen = self._screen_arrays if self._plan.screened else []
        return screen + [array for matrix in self._ternary for array in self._packer.arrays(matrix)]

    def pack(
        self, packed: PackedWeights, progress: Progress | None = None
    ) -> Iterator[NDArray[Any]]:
        """The arrays of `arrays`, one after the other. Those that `packed` has are taken from
        there, after a check of all their bytes. The memory of an array is freed with it.

        Raises
        ------
        PackedFileError
            An array of `packed` is damaged or does not fit.
        """
        self._refuse_not_finite()
        if self._plan.screened:
            screen = self._screen(packed, _own_memory, whole=True)
            blocks, stats = screen.blocks, screen.stats
            del screen  # so that nothing but the receiver has it while the next one is packed
            yield blocks
            del blocks
            yield stats
        for done, plan in enumerate(self._ternary, 1):
            matrix = self._packer.stored(plan, packed, whole=True)
            matrix = matrix or self._packer.pack(plan, _own_memory)
            codes, scale = matrix.codes, np.array([matrix.scale], np.float32)
            self._packed(plan, done, progress)
            del matrix
            yield codes
            del codes
            yield scale

    def build(
        self, packed: PackedWeights | None = None, progress: Progress | None = None
    ) -> Decoder:
        """The decoder, with arrays of `packed` where it has them, and otherwise packed into memory
        on huge pages.

        Raises
        ------
        PackedFileError
            An array of `packed` is damaged or does not fit.
        MemoryLimitError
            Weights that have to be packed into memory do not fit there.
        """
        packed, allocate = packed or PackedWeights(), Arena().allocate
        if not packed.has_all(self.arrays):
            refuse_too_large(self._checkpoint, self._plan, self._options, mapped=False)
            self._refuse_not_finite()
        matrices: dict[MatrixPlan, TernaryMatrix | Tensor] = dict(self._floats)
        for done, plan in enumerate(self._ternary, 1):
            matrix = self._packer.stored(plan, packed) or self._packer.pack(plan, allocate)
            warn_if_alike(self._checkpoint, plan.name, matrix.codes)
            self._packed(plan, done, progress)
            matrices[plan] = matrix
        screen = self._screen(packed, allocate) if self._plan.screened else None
        return build_decoder(self._plan, matrices, self._vectors, screen)

    def _refuse_not_finite(self) -> None:
        """Of floats that no screen looks at. When weights are packed, because a start with packed
        weights does not read them; the same file was looked at when these were made."""
        for plan, tensor in self._floats.items():
            if not (self._plan.screened and plan == self._head):
                refuse_not_finite(self._checkpoint, tensor)

    def _packed(self, plan: MatrixPlan, done: int, progress: Progress | None) -> None:
        self._checkpoint.release(plan.name)
        if progress is not None:
            progress(done, len(self._ternary), "loading weights")

    def _screen(
        self, packed: PackedWeights, allocate: Allocate, *, whole: bool = False
    ) -> ScreenedHead:
        head = self._floats[self._head]
        blocks, stats = (packed.get(array.name, whole=whole) for array in self._screen_arrays)
        stored = (head.array, head.dtype, self._options.n_threads)
        screen = None
        if blocks is not None and stats is not None:
            try:
                screen = ScreenedHead(*stored, packed=(blocks, stats))
            except ValueError as error:
                packed.refuse(head.name, error)
        if screen is None:
            screen = ScreenedHead(*stored, allocate)
        if not screen.finite:
            file = self._checkpoint.info(head.name).file
            raise FormatError(f"{file}: tensor {head.name!r}: a weight is NaN or infinite")
        self._checkpoint.release(head.name)  # from now on only a few of its rows are read
        return screen

    @property
    def _head(self) -> MatrixPlan:
        return self._plan.head or self._plan.embedding

    @property
    def _screen_arrays(self) -> list[ArrayPlan]:
        name = self._head.name
        blocks, stats = screen_shapes(self._head.rows, self._head.columns)
        return [
            ArrayPlan(f"{name}:screen", np.dtype(np.uint8), blocks),
            ArrayPlan(f"{name}:screen_stats", np.dtype(np.float32), stats),
        ]


def _own_memory(size: int) -> NDArray[np.uint8]:
    """Memory that goes with its array. A small one would take a whole huge page."""
    return zeros(size) if size >= HUGE_PAGE else aligned_empty(size)
