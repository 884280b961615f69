"""From tensors of a checkpoint to the matrices of the kernels. Shared by all families."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..kernels.encodings import Problem
from ..kernels.group_scales import check_group_scales
from ..kernels.head import ScreenedHead
from ..kernels.packing import GROUP_LAYOUTS, pack_float, pack_source
from ..kernels.sources import TernarySource
from ..kernels.ternary_matrix import TernaryMatrix
from .arena import Arena, detached
from .base import LoadOptions
from .plan import DecoderPlan, MatrixPlan, VectorPlan
from .projections import FLOAT_DTYPES, Masters, ProjectionReader, problem_text, to_float32
from .untrained import warn_if_alike, warn_if_zero

__all__ = ["FLOAT_DTYPES", "WeightLoader", "refuse_other_head", "refuse_unused"]

COMPARED = 1 << 20  # weights compared in one go


class WeightLoader:
    """Reads the tensors of a plan from a checkpoint, checks them, and counts progress.

    Parameters
    ----------
    checkpoint : Checkpoint
    options : LoadOptions
    plan : DecoderPlan

    Attributes
    ----------
    n_parameters : int
        Weights that were read so far.
    """

    def __init__(self, checkpoint: Checkpoint, options: LoadOptions, plan: DecoderPlan) -> None:
        self.checkpoint, self.options, self.plan = checkpoint, options, plan
        self.n_parameters = self._done = 0
        self._total = sum(matrix.layout is not None for matrix in plan.matrices)
        self._arena = Arena()
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

    def vector(self, plan: VectorPlan) -> NDArray[np.float32]:
        """A norm's weights or a bias as float32 (size,)."""
        values = to_float32(self._take(plan.name, (plan.size,)))
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise self._wrong(plan.name, f"element {bad} is {values[bad]}")
        if plan.offset:
            values = values + np.float32(plan.offset)
        return values if plan.multiplier == 1 else values * np.float32(plan.multiplier)

    def embedding(self, plan: MatrixPlan) -> TernaryMatrix | Tensor:
        """An embedding or a head: ternary in groups, or floats in their stored dtype. Block types
        of GGUF are decoded to F32."""
        if plan.layout is None:
            return self._take(plan.name, (plan.rows, plan.columns))
        return self.matrix(plan)

    def matrix(self, plan: MatrixPlan) -> TernaryMatrix:
        """A ternary matrix in the layout of its plan."""
        assert plan.layout is not None
        name, options = plan.name, self.options
        found = self._reader.read(name, plan.rows, plan.columns, plan.head_dim)
        self.n_parameters += plan.rows * plan.columns
        matrix = self._packed_before(plan) or self._pack(plan, found)
        warn_if_alike(self.checkpoint, name, matrix.codes)
        options.packed.keep(f"{name}:{plan.layout}", matrix.codes)
        options.packed.keep(f"{name}:scale", np.array([matrix.scale], np.float32))
        self.checkpoint.release(name)
        self._done += 1
        if options.progress is not None:
            options.progress(self._done, self._total, "loading weights")
        return matrix

    def _pack(self, plan: MatrixPlan, found: list[TernarySource] | Masters) -> TernaryMatrix:
        name, rows, columns, layout = plan.name, plan.rows, plan.columns, plan.layout
        assert layout is not None
        threads, allocate = self.options.n_threads, self._arena.allocate
        if isinstance(found, Masters):
            tensor = found.tensor
            array = _in_order(tensor.array, found.head_dim)
            codes, scale = pack_float(array, tensor.dtype, threads, allocate, layout)
            if not math.isfinite(scale):
                raise self._wrong(name, "a weight is NaN or infinite")
            return TernaryMatrix(codes, rows, columns, scale, layout)
        problem = None
        for source in found:
            scale = 1.0
            if self.plan.group_layout is None:
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
                f"{self.checkpoint.info(name).file}: tensor {name!r}: its scales are for fewer "
                "columns than those of the first projection, which is not supported"
            )
        raise self._wrong(name, problem_text(problem, found[0].encoding))

    def _packed_before(self, plan: MatrixPlan) -> TernaryMatrix | None:
        """The matrix as an earlier load packed and checked it, or None. The data of the tensor are
        not read."""
        packed, name = self.options.packed, plan.name
        codes, scale = packed.get(f"{name}:{plan.layout}"), packed.get(f"{name}:scale")
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
            packed.refuse(name, error)

    def screen(self, head: Tensor) -> ScreenedHead:
        """The screen of an output head of floats.

        Raises
        ------
        FormatError
            If a weight is NaN or infinite.
        """
        blocks = self.options.packed.get(f"{head.name}:screen")
        stats = self.options.packed.get(f"{head.name}:screen_stats")
        stored = (head.array, head.dtype, self.options.n_threads)
        screen = None
        if blocks is not None and stats is not None:
            try:
                screen = ScreenedHead(*stored, packed=(blocks, stats))
            except ValueError as error:
                self.options.packed.refuse(head.name, error)
        if screen is None:
            screen = ScreenedHead(*stored, self._arena.allocate)
        if not screen.finite:
            raise self._wrong(head.name, "a weight is NaN or infinite")
        self.options.packed.keep(f"{head.name}:screen", screen.blocks)
        self.options.packed.keep(f"{head.name}:screen_stats", screen.stats)
        self.checkpoint.release(head.name)  # from now on only a few of its rows are read
        return screen

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = detached(self.checkpoint.floats(name, shape=shape))
        warn_if_zero(self.checkpoint, name, tensor.array)
        self.used.add(name)
        self.n_parameters += tensor.array.size
        return tensor

    def _wrong(self, name: str, what: str) -> FormatError:
        return self._reader.wrong(name, what)


def _in_order(rows: NDArray[Any], head_dim: int) -> NDArray[Any]:
    """Rows of q or k in the order of Hugging Face, from that of llama.cpp if head_dim is not 0."""
    if not head_dim:
        return rows
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def refuse_other_head(checkpoint: Checkpoint, embedding: Tensor) -> None:
    """Refuse a stored head that differs from the embedding that config.json ties it to.

    Raises
    ------
    FormatError
    """
    head = checkpoint.floats("lm_head.weight", shape=embedding.array.shape)
    rows = len(head.array)
    step = max(1, COMPARED // head.array.shape[1])
    same = head.dtype == embedding.dtype and all(
        np.array_equal(_bits(head, begin, step), _bits(embedding, begin, step))
        for begin in range(0, rows, step)
    )
    checkpoint.release(head.name)
    if not same:
        raise FormatError(
            f"{checkpoint.path}: config.json: tie_word_embeddings is true, but the stored "
            "lm_head.weight is not the embedding; should it be false?"
        )


def _bits(tensor: Tensor, begin: int, step: int) -> NDArray[Any]:
    return tensor.array[begin : begin + step].view(f"u{tensor.array.dtype.itemsize}")


def refuse_unused(checkpoint: Checkpoint, used: Collection[str], family: str) -> None:
    """Refuse tensors that the graph does not use. They mean that the model has another graph.

    Raises
    ------
    UnsupportedModelError
        The checkpoint holds a tensor whose name is not in `used`.
    """
    # a tied head that is stored a second time, and values that follow from the config
    harmless = ("lm_head.weight", ".rotary_emb.inv_freq")
    unused = [name for name in checkpoint.names if name not in used and not name.endswith(harmless)]
    if unused:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {len(unused)} tensors have no place in a {family} model, "
            f"the first is {unused[0]!r}"
        )
