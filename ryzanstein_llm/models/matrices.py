"""The ternary matrices of a plan: packed from a checkpoint, or as they were packed before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedModelError
from ..formats import Checkpoint
from ..kernels.encodings import Problem
from ..kernels.group_scales import check_group_scales
from ..kernels.packing import GROUP_LAYOUTS, aligned_empty, pack_float, pack_source, storage_shape
from ..kernels.sources import TernarySource
from ..kernels.ternary_matrix import TernaryMatrix
from ..packed_cache.weights import ArrayPlan, PackedWeights
from .plan import DecoderPlan, MatrixPlan
from .projections import Masters, ProjectionReader, problem_text

__all__ = ["MatrixPacker"]

Allocate = Callable[[int], NDArray[np.uint8]]


class MatrixPacker:
    """
    Parameters
    ----------
    checkpoint : Checkpoint
    plan : DecoderPlan
    n_threads : int
    """

    def __init__(self, checkpoint: Checkpoint, plan: DecoderPlan, n_threads: int) -> None:
        self._checkpoint, self._plan, self._threads = checkpoint, plan, n_threads
        description = plan.description
        self._reader = ProjectionReader(
            checkpoint, description.config.quantization, description.masters
        )
        # None, where a layout follows from the plan
        self._activations = None if plan.group_layout is None else plan.activations

    @property
    def used(self) -> set[str]:
        """The names of all tensors that were read."""
        return self._reader.used

    def read(self, plan: MatrixPlan) -> list[TernarySource] | Masters:
        """How the weights are stored. Of their data, only what decides that is read."""
        return self._reader.read(plan.name, plan.rows, plan.columns, plan.head_dim)

    def pack(self, plan: MatrixPlan, allocate: Allocate = aligned_empty) -> TernaryMatrix:
        """The matrix in the layout of its plan, packed from the checkpoint.

        Parameters
        ----------
        allocate
            From a number of bytes to a 64-byte aligned uint8 array.

        Raises
        ------
        FormatError, UnsupportedModelError
            The tensor is missing, does not fit, or is not ternary.
        """
        name, rows, columns, layout = plan.name, plan.rows, plan.columns, plan.layout
        assert layout is not None
        found, threads = self.read(plan), self._threads
        if isinstance(found, Masters):
            tensor = found.tensor
            array = _in_order(tensor.array, found.head_dim)
            codes, scale = pack_float(array, tensor.dtype, threads, allocate, layout)
            if not math.isfinite(scale):
                raise self._reader.wrong(name, "a weight is NaN or infinite")
            return TernaryMatrix(codes, rows, columns, scale, layout)
        problem = None
        for source in found:
            scale = 1.0
            if self._plan.group_layout is None:
                common = source.common_scale(threads)
                if common is None:
                    continue
                scale = common or 1.0  # 0: all weights are 0
            elif source.group < source.columns and source.group % GROUP_LAYOUTS[layout]:
                continue
            codes, problem = pack_source(source, threads, allocate, layout)
            if problem is None:
                return TernaryMatrix(codes, rows, columns, scale, layout, self._activations)
            if problem is not Problem.FLOATS:
                break
        if problem is None:
            raise UnsupportedModelError(
                f"{self._checkpoint.info(name).file}: tensor {name!r}: its scales are for fewer "
                "columns than those of the first projection, which is not supported"
            )
        raise self._reader.wrong(name, problem_text(problem, found[0].encoding))

    def stored(
        self, plan: MatrixPlan, packed: PackedWeights, *, whole: bool = False
    ) -> TernaryMatrix | None:
        """The matrix as it was packed before, or None. The data of the tensor are not read.

        Parameters
        ----------
        whole : bool
            Check every byte of it, not only some.

        Raises
        ------
        PackedFileError
            It is damaged.
        """
        codes, scale = (packed.get(array.name, whole=whole) for array in self.arrays(plan))
        if codes is None or scale is None or plan.layout is None:
            return None
        try:
            if scale.dtype != np.float32 or scale.shape != (1,) or not 0 < scale[0] < math.inf:
                raise ValueError(f"a scale cannot be {scale.dtype} {scale}")
            matrix = TernaryMatrix(
                codes, plan.rows, plan.columns, float(scale[0]), plan.layout, self._activations
            )
            check_group_scales(matrix)
            return matrix
        except ValueError as error:
            packed.refuse(plan.name, error)

    @staticmethod
    def arrays(plan: MatrixPlan) -> tuple[ArrayPlan, ArrayPlan]:
        """What is kept of a packed matrix: codes, scale."""
        assert plan.layout is not None
        shape = storage_shape(plan.rows, plan.columns, plan.layout)
        return (
            ArrayPlan(f"{plan.name}:{plan.layout}", np.dtype(np.uint8), shape),
            ArrayPlan(f"{plan.name}:scale", np.dtype(np.float32), (1,)),
        )


def _in_order(rows: NDArray[Any], head_dim: int) -> NDArray[Any]:
    """Rows of q or k in the order of Hugging Face, from that of llama.cpp if head_dim is not 0."""
    if not head_dim:
        return rows
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
