"""From the tensors of a projection to what packing reads: how its weights are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..kernels.elementwise import reciprocal
from ..kernels.encodings import ENCODINGS, Problem
from ..kernels.sources import TernarySource
from .quantization import Quantization
from .stored_ternary import GROUPS, sampled_group

__all__ = ["FLOAT_DTYPES", "Masters", "ProjectionReader", "problem_text", "to_float32"]

FLOAT_DTYPES = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Masters:
    """Float weights that absmean makes ternary. `head_dim` is as in TernarySource."""

    tensor: Tensor
    head_dim: int = 0


class ProjectionReader:
    """Finds the weights of projections. The dtype of a tensor decides how it is read.

    Parameters
    ----------
    checkpoint : Checkpoint
    quantization : Quantization
    masters : bool
        Whether all float weights are masters, even if they are ternary already.
    """

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization, masters: bool) -> None:
        self.checkpoint, self._quantization, self._masters = checkpoint, quantization, masters
        self.used: set[str] = set()

    def read(
        self, name: str, rows: int, columns: int, head_dim: int = 0
    ) -> list[TernarySource] | Masters:
        """The weights of `name`, such as "model.layers.0.mlp.up_proj.weight".

        Parameters
        ----------
        head_dim : int
            As in TernarySource: if not 0, rows of heads are in the order of llama.cpp.

        Returns
        -------
        Masters, or one or more sources. If there are several, the first one whose packing finds no
        Problem.FLOATS is right.

        Raises
        ------
        FormatError, UnsupportedModelError
            A tensor is missing, does not fit, or is not ternary.
        """
        dtype = self.checkpoint.info(name).dtype
        try:
            if dtype == "U8":
                return [self._packed(name, rows, columns)]
            if dtype == "U32":
                return [self._mlx(name, rows, columns)]
            if dtype in FLOAT_DTYPES:
                return self._floats(name, rows, columns, head_dim)
            if dtype in ENCODINGS:
                self._check_shape(name, (rows, columns))
                data = self._take(name, (dtype,), None).array
                return [TernarySource(dtype, data, rows, columns, head_dim=head_dim)]
        except ValueError as error:
            if isinstance(error, (FormatError, UnsupportedModelError)):
                raise
            raise self.wrong(name, str(error)) from None
        raise self.wrong(name, f"{dtype} is no dtype of ternary weights")

    def is_ternary(self, name: str) -> bool:
        """Whether a tensor, such as the embedding, is stored as ternary weights."""
        dtype = self.checkpoint.info(name).dtype
        if dtype not in FLOAT_DTYPES:
            return dtype == "U32" or dtype in ENCODINGS
        tensor = self.checkpoint.tensor(name)
        return tensor.array.ndim == 2 and sampled_group(tensor) is not None

    def _packed(self, name: str, rows: int, columns: int) -> TernarySource:
        """The form of transformers: four codes in a byte, and one scale."""
        scale_name = f"{name}_scale"
        data = self._take(name, ("U8",), ((rows + 3) // 4, columns)).array
        scale_tensor = self._take(scale_name, FLOAT_DTYPES, None)
        if scale_tensor.array.size != 1:
            raise self.wrong(scale_name, f"shape {scale_tensor.array.shape} is not one number")
        if not self._quantization.bitnet:
            raise FormatError(
                f"{self.checkpoint.path}: config.json has no quantization_config, which says "
                f"whether packed weights such as {name!r} are multiplied or divided by their scale"
            )
        scale = float(to_float32(scale_tensor).reshape(1)[0])
        multiplier = reciprocal(scale) if self._quantization.divides else scale
        if not (math.isfinite(scale) and math.isfinite(multiplier) and multiplier > 0):
            raise self.wrong(scale_name, f"a scale cannot be {scale}")
        return TernarySource("hf_packed", data, rows, columns, scale=multiplier)

    def _mlx(self, name: str, rows: int, columns: int) -> TernarySource:
        """The form of MLX with two bits: sixteen codes in a word, a scale and a bias a group."""
        prefix = name.removesuffix("weight")
        group = self._quantization.mlx_group
        if group is None:
            raise FormatError(
                f"{self.checkpoint.path}: config.json has no quantization with two bits, which "
                f"{name!r} needs"
            )
        data = self._take(name, ("U32",), (rows, -(-columns // 16))).array
        shape = (rows, columns // group)
        scales = self._take(f"{prefix}scales", FLOAT_DTYPES, shape)
        biases = self._take(f"{prefix}biases", (scales.dtype,), shape).array
        return TernarySource(
            "MLX2", data, rows, columns, kind=scales.dtype, scales=scales.array, biases=biases
        )

    def _floats(
        self, name: str, rows: int, columns: int, head_dim: int
    ) -> list[TernarySource] | Masters:
        tensor = self._take(name, FLOAT_DTYPES, (rows, columns))
        group = None if self._masters else sampled_group(tensor)
        if group is None:
            if not (self._masters or self._quantization.bitnet):
                raise UnsupportedModelError(
                    f"{self.checkpoint.path}: tensor {name!r} is not ternary, and config.json has "
                    "no quantization_config that says it will be; this is no ternary model"
                )
            return Masters(tensor, head_dim)
        return [
            TernarySource(
                "ternary_floats", tensor.array, rows, columns, head_dim=head_dim,
                kind=tensor.dtype, group=wide,
            )
            for wide in (group, *(finer for finer in GROUPS if finer < group))
        ]  # fmt: skip

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        found = self.checkpoint.info(name).shape
        if found != shape:
            raise self.wrong(name, f"expected shape {shape}, found {found}")

    def _take(self, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...] | None) -> Tensor:
        tensor = self.checkpoint.tensor(name, dtypes=dtypes, shape=shape)
        self.used.add(name)
        return tensor

    def wrong(self, name: str, what: str) -> FormatError:
        """The exception for a tensor with something wrong."""
        return FormatError(f"{self.checkpoint.info(name).file}: tensor {name!r}: {what}")


def problem_text(problem: Problem, encoding: str) -> str:
    """What packing found wrong, for people."""
    if problem is Problem.CODE and encoding in ("Q2_0", "PQ2_0"):
        return "a weight has code 3, which means +2: the weights have two bits and are not ternary"
    return {
        Problem.CODE: "a weight has code 3; only 0, 1, 2 (for -1, 0, +1) exist",
        Problem.FLOATS: "some rows are ternary, but not all",
        Problem.SCALE: "a scale is negative, NaN or infinite",
        Problem.HALF: "a scale is no fp16 number, so it cannot be kept with its group",
        Problem.BIAS: "a bias is not minus its scale, so the weights are not ternary",
    }[problem]


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """Stored floats as float32, exactly."""
    if tensor.dtype == "BF16":
        return (tensor.array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(tensor.array, dtype=np.float32)
