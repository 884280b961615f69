"""The source of a conversion: a checkpoint, its plan, and its matrices as codes and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError
from ..formats import Checkpoint
from ..kernels.packing import GROUP_LAYOUTS, unpack_scales
from ..models import DecoderPlan, LoadOptions, plan_model
from ..models.matrices import MatrixPacker
from ..models.plan import MatrixPlan
from ..models.untrained import warn_if_alike
from ..models.weights import refuse_other_head, refuse_unused

__all__ = ["Source", "TernaryWeights"]

COMPANIONS = ("weight_scale", "scales", "biases")
"""Tensors that belong to a ternary matrix, named beside its `weight`."""


@dataclass(frozen=True)
class TernaryWeights:
    """A matrix with its rows in the order of Hugging Face.

    Attributes
    ----------
    codes : uint8 (rows, columns)
        Values + 1.
    scale : float
        What +1 stands for, if `scales` is None.
    scales : float32 (rows, groups) or None
        The same for each group of columns, exact in float16.
    """

    codes: NDArray[np.uint8]
    scale: float
    scales: NDArray[np.float32] | None


class Source:
    """
    Parameters
    ----------
    checkpoint : Checkpoint
        After `translate`.
    n_threads : int

    Raises
    ------
    UnsupportedModelError, FormatError
        As `BitNetModel`; also for tensors that the model does not use.
    """

    def __init__(self, checkpoint: Checkpoint, n_threads: int) -> None:
        self.checkpoint = checkpoint
        options = LoadOptions(n_threads, skipping=False, weight_format="2bit")
        self.plan: DecoderPlan = plan_model(checkpoint, options)
        self._packer = MatrixPacker(checkpoint, self.plan, n_threads)
        plan = self.plan
        used = {vector.name for vector in plan.vectors}
        for matrix in plan.matrices:
            stem = matrix.name.removesuffix("weight")
            used |= {matrix.name, *(stem + companion for companion in COMPANIONS)}
        refuse_unused(checkpoint, used, plan.description.family)
        missing = next((name for name in sorted(self._needed()) if name not in checkpoint), None)
        if missing is not None:
            checkpoint.info(missing)  # FormatError
        embedding = plan.embedding
        if plan.head is None and embedding.layout is None and "lm_head.weight" in checkpoint:
            shape = (embedding.rows, embedding.columns)
            refuse_other_head(checkpoint, checkpoint.floats(embedding.name, shape=shape))

    def _needed(self) -> set[str]:
        names = {matrix.name for matrix in self.plan.matrices}
        return names | {vector.name for vector in self.plan.vectors}

    @property
    def one_scale(self) -> bool:
        """Whether each matrix has one scale, and activations are int8 with a scale for each
        token."""
        return self.plan.group_layout is None

    @property
    def group(self) -> int:
        """Columns that share a scale, if `one_scale` is false."""
        assert self.plan.group_layout is not None
        return GROUP_LAYOUTS[self.plan.group_layout]

    def ternary(self, plan: MatrixPlan) -> TernaryWeights:
        """A matrix of the plan, checked as it is when a model loads."""
        matrix = self._packer.pack(plan)
        warn_if_alike(self.checkpoint, plan.name, matrix.codes)
        self.checkpoint.release(plan.name)
        codes = matrix.dense()
        codes += 1
        scales = None
        if not self.one_scale:
            scales = unpack_scales(matrix.codes, plan.rows, plan.columns, matrix.layout)
        return TernaryWeights(codes.view(np.uint8), matrix.scale, scales)

    def check_same(self, other: DecoderPlan, path: object) -> None:
        """Refuse a result whose plan is another one, so that it would be another model.

        Raises
        ------
        ConversionError
        """
        mine, theirs = _essence(self.plan), _essence(other)
        for key, value in mine.items():
            if theirs[key] != value:
                raise ConversionError(
                    f"{path}: {key} would be {theirs[key]}, not {value} as in "
                    f"{self.checkpoint.path}; the format cannot hold this model"
                )


def _essence(plan: DecoderPlan) -> dict[str, object]:
    """What decides which numbers a model computes, beside its weights."""
    config = plan.description.config
    found: dict[str, object] = {
        "family": plan.description.family,
        "quantised activations": plan.activations,
        "groups": plan.group_layout,
        "ternary embedding": plan.embedding.layout,
        "ternary head": None if plan.head is None else plan.head.layout,
        "norms and biases": tuple((vector.size, vector.offset) for vector in plan.vectors),
    }
    apart = ("quantization", "interleaved", "attention_bias", "mlp_bias")
    return found | {
        name: getattr(config, name) for name in config.__dataclass_fields__ if name not in apart
    }
