"""A ternary matrix as a checkpoint stores it: which tensors, which encoding, which scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..kernels.elementwise import reciprocal
from ..kernels.encodings import ENCODINGS, Problem
from ..kernels.sources import TernarySource
from .quantization import Quantization
from .stored_ternary import find_scales

__all__ = ["FLOAT_DTYPES", "StoredMatrix", "find_matrix", "to_float32"]

FLOAT_DTYPES = ("BF16", "F16", "F32")

PROBLEMS = {
    Problem.CODE: "a weight has code 3; only 0, 1, 2 (for -1, 0, +1) exist",
    Problem.FLOATS: "a weight is neither 0 nor plus or minus the scale of its group",
    Problem.SCALE: "a scale is negative, NaN or infinite",
    Problem.HALF: "a scale is no float16 number, as scales of groups are kept",
    Problem.BIAS: "a bias is not minus its scale, so a value has no ternary code",
}
# types in which code 3 is a fourth value
TWO_BITS = ("Q2_0", "PQ2_0", "MLX2")


@dataclass
class StoredMatrix:
    """
    Attributes
    ----------
    checkpoint : Checkpoint
    name : str
        Of the tensor with the weights.
    companions : tuple of str
        Names of the tensors with its scales.
    rows, columns : int
    source : TernarySource or None
        None for floats, which `floats` has.
    floats : Tensor or None
    head_dim : int
        If not 0, rows of each head of this size are in the order of llama.cpp's arch `llama`.
    """

    checkpoint: Checkpoint
    name: str
    companions: tuple[str, ...]
    rows: int
    columns: int
    source: TernarySource | None = None
    floats: Tensor | None = None
    head_dim: int = 0

    def wrong(self, what: str) -> FormatError:
        """The exception for impossible data."""
        return FormatError(f"{self.checkpoint.info(self.name).file}: tensor {self.name!r}: {what}")

    def failure(self, problem: Problem) -> FormatError | UnsupportedModelError:
        """The exception for a problem of packing."""
        if problem is Problem.CODE and self.source and self.source.encoding in TWO_BITS:
            return UnsupportedModelError(
                f"{self.checkpoint.path}: tensor {self.name!r} has the value +2: this model is "
                "2-bit, not ternary"
            )
        return self.wrong(PROBLEMS[problem])

    def ternary_source(self) -> TernarySource | None:
        """The codes and scales that are stored, or None for float weights that are not ternary.

        Raises
        ------
        FormatError
            Some rows are ternary and others are not.
        """
        if self.floats is None:
            return self.source
        try:
            scales = find_scales(self.floats)
        except FormatError as error:
            raise FormatError(f"{self.checkpoint.info(self.name).file}: {error}") from None
        if scales is None:
            return None
        group = scales.group if scales.group % 64 == 0 else -(-self.columns // 64) * 64
        return TernarySource(
            "ternary_floats",
            self.floats.array,
            self.rows,
            self.columns,
            kind=self.floats.dtype,
            group=group,
            head_dim=self.head_dim,
        )


def find_matrix(
    checkpoint: Checkpoint,
    prefix: str,
    rows: int,
    columns: int,
    quantization: Quantization,
    head_dim: int = 0,
) -> StoredMatrix:
    """The matrix (rows, columns) of `prefix.weight`. The dtype of the tensor decides what it is,
    not the config. No data are read but the scale of a packed matrix.

    Raises
    ------
    FormatError
        Tensors are missing, have another shape, or an impossible scale.
    UnsupportedModelError
        The weights are in an encoding that is not ternary.
    """
    name = f"{prefix}.weight"
    info = checkpoint.info(name)
    stored = StoredMatrix(checkpoint, name, (), rows, columns, head_dim=head_dim)
    if info.dtype in FLOAT_DTYPES:
        stored.floats = checkpoint.tensor(name, dtypes=FLOAT_DTYPES, shape=(rows, columns))
    elif info.dtype == "U8":
        _read_packed(stored, f"{prefix}.weight_scale", quantization)
    elif info.dtype == "U32":
        _read_mlx(stored, prefix)
    elif info.dtype in ENCODINGS:
        tensor = checkpoint.tensor(name, dtypes=(info.dtype,))
        if info.shape != (rows, columns):
            raise stored.wrong(f"expected shape {(rows, columns)}, found {info.shape}")
        stored.source = _source(stored, info.dtype, tensor.array, head_dim=head_dim)
    elif checkpoint.metadata is None:
        raise stored.wrong(f"expected dtype {', '.join(FLOAT_DTYPES)}, U8 or U32, found {info.dtype}")
    else:
        raise UnsupportedModelError(
            f"{checkpoint.path}: tensor {name!r} is stored as {info.dtype}, which is not ternary"
        )
    return stored


def _source(
    stored: StoredMatrix, encoding: str, data: NDArray[Any], **options: Any
) -> TernarySource:
    try:
        return TernarySource(encoding, data, stored.rows, stored.columns, **options)
    except ValueError as error:
        raise stored.wrong(str(error)) from None


def _read_packed(stored: StoredMatrix, scale_name: str, quantization: Quantization) -> None:
    """Hugging Face's packed bytes and their scale."""
    checkpoint = stored.checkpoint
    shape = ((stored.rows + 3) // 4, stored.columns)
    codes = checkpoint.tensor(stored.name, dtypes=("U8",), shape=shape)
    scale_tensor = checkpoint.tensor(scale_name, dtypes=FLOAT_DTYPES)
    if scale_tensor.array.size != 1:
        raise FormatError(
            f"{checkpoint.info(scale_name).file}: tensor {scale_name!r}: shape "
            f"{scale_tensor.array.shape} is not one number"
        )
    if not quantization.bitnet:
        raise FormatError(
            f"{checkpoint.path}: config.json has no quantization_config, which says whether packed "
            f"weights such as {stored.name!r} are multiplied or divided by their scale"
        )
    scale = float(to_float32(scale_tensor).reshape(1)[0])
    multiplier = reciprocal(scale) if quantization.divides else scale
    if not (math.isfinite(scale) and math.isfinite(multiplier) and multiplier > 0):
        raise FormatError(
            f"{checkpoint.info(scale_name).file}: tensor {scale_name!r}: a scale cannot be {scale}"
        )
    stored.companions = (scale_name,)
    stored.source = _source(stored, "hf_packed", codes.array, scale=multiplier)


def _read_mlx(stored: StoredMatrix, prefix: str) -> None:
    """MLX's 2-bit words, scales and biases."""
    checkpoint = stored.checkpoint
    shape = (stored.rows, -(-stored.columns // 16))
    words = checkpoint.tensor(stored.name, dtypes=("U32",), shape=shape)
    scales = checkpoint.tensor(f"{prefix}.scales", dtypes=FLOAT_DTYPES)
    biases = checkpoint.tensor(f"{prefix}.biases", dtypes=(scales.dtype,), shape=scales.array.shape)
    stored.companions = (scales.name, biases.name)
    stored.source = _source(
        stored, "MLX2", words.array, kind=scales.dtype, scales=scales.array, biases=biases.array
    )


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """Stored floats as float32, exactly."""
    if tensor.dtype == "BF16":
        return (tensor.array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(tensor.array, dtype=np.float32)
