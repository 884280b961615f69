"""A model as one GGUF file: ternary weights as TQ2_0 or I2_S, everything else as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError
from ..formats.gguf_writer import GgufTensor, encode_gguf_header, write_gguf
from ..formats.ternary_blocks import pack_i2_s, pack_tq2_0
from ..models.gguf_architectures import ARCHITECTURES
from ..models.plan import MatrixPlan, VectorPlan
from ..models.projections import FLOAT_DTYPES, to_float32
from .gguf_names import architecture_for, architecture_keys, gguf_name
from .gguf_sampling import sampling_keys
from .source import Source, TernaryWeights

__all__ = ["GGUF_TYPES", "GgufTarget"]

# name for users -> type of ternary tensors, columns of a block, value of general.file_type
GGUF_TYPES = {"tq2_0": ("TQ2_0", 256, 37), "i2_s": ("I2_S", 128, 40)}


class GgufTarget:
    """Plans the file, and writes it.

    Parameters
    ----------
    source : Source
    to : key of GGUF_TYPES
    tokenizer : dict
        The keys of `tokenizer.ggml` and `tokenizer.chat_template`.

    Raises
    ------
    ConversionError
        The format cannot hold the model.
    """

    def __init__(self, source: Source, to: str, tokenizer: dict[str, Any]) -> None:
        self._source, self._path = source, source.checkpoint.path
        self._type, self._block, file_type = GGUF_TYPES[to]
        self._refuse_activations()
        description = source.plan.description
        self._architecture = architecture_for(description, self._path)
        self._head_dim = 0
        if ARCHITECTURES[self._architecture].interleaved:
            self._head_dim = description.config.head_dim
        self.tensors = list(self._tensors())
        self._metadata: dict[str, Any] = {
            "general.architecture": self._architecture,
            "general.type": "model",
            "general.name": self._path.stem,
            "general.file_type": file_type,
            "general.quantization_version": 2,
            **architecture_keys(description, self._architecture),
            **sampling_keys(source.checkpoint),
            **tokenizer,
        }

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        header = encode_gguf_header(self._metadata, self.tensors)
        return len(header) + sum(tensor.nbytes + 31 for tensor in self.tensors)

    def write(self, path: Path, written: Callable[[int, int], object]) -> None:
        """Write the file. `written` gets tensors done and in all."""
        write_gguf(path, self._metadata, self.tensors, written)

    def _refuse_activations(self) -> None:
        """Readers tell from the type of the weights what becomes of activations."""
        source = self._source
        if self._type == "I2_S":
            if not source.one_scale:
                raise ConversionError(
                    f"{self._path}: I2_S has one scale for a matrix and int8 activations with one "
                    "scale for each token; this model has scales for groups of columns"
                )
        elif source.one_scale and not source.plan.description.masters:
            raise ConversionError(
                f"{self._path}: its activations are int8 with a scale for each token, which a file "
                f"of {self._type} does not say for this family; i2_s does"
            )
        elif not source.one_scale and source.group == 64:
            raise ConversionError(
                f"{self._path}: its scales and its activations are for groups of 64 columns, and "
                f"{self._type} has blocks of {self._block}"
            )

    def _tensors(self) -> Iterator[GgufTensor]:
        plan = self._source.plan
        for matrix in plan.matrices:
            yield self._floats(matrix) if matrix.layout is None else self._ternary(matrix)
        for vector in plan.vectors:
            yield self._vector(vector)

    def _name(self, name: str) -> str:
        found = gguf_name(name, self._architecture)
        if found is None:
            raise ConversionError(
                f"{self._path}: tensor {name!r} has no place in a GGUF file of architecture "
                f"{self._architecture!r}"
            )
        return found

    def _floats(self, matrix: MatrixPlan) -> GgufTensor:
        """An embedding or a head, byte for byte."""
        tensor = self._source.checkpoint.tensor(matrix.name)
        shape = (matrix.rows, matrix.columns)
        return GgufTensor(self._name(matrix.name), tensor.dtype, shape, lambda: [tensor.array])

    def _vector(self, vector: VectorPlan) -> GgufTensor:
        """As float32, which llama.cpp needs and which holds every stored float."""
        shape = (vector.size,)
        tensor = self._source.checkpoint.tensor(vector.name, dtypes=FLOAT_DTYPES, shape=shape)
        return GgufTensor(self._name(vector.name), "F32", shape, lambda: [to_float32(tensor)])

    def _ternary(self, matrix: MatrixPlan) -> GgufTensor:
        if matrix.columns % self._block:
            raise ConversionError(
                f"{self._path}: tensor {matrix.name!r} has {matrix.columns} columns, which "
                f"is no multiple of {self._block}, the block of {self._type}"
            )
        permuted = matrix.name.endswith(("q_proj.weight", "k_proj.weight"))
        head_dim = self._head_dim if permuted else 0

        def data() -> Iterator[NDArray[Any]]:
            weights = self._source.ternary(matrix)
            codes = _interleaved(weights.codes, head_dim)
            if self._type == "I2_S":
                yield pack_i2_s(codes, weights.scale)
            else:
                scales = self._block_scales(matrix, weights)
                yield pack_tq2_0(codes, _interleaved(scales, head_dim))

        shape = (matrix.rows, matrix.columns)
        return GgufTensor(self._name(matrix.name), self._type, shape, data)

    def _block_scales(self, matrix: MatrixPlan, weights: TernaryWeights) -> NDArray[np.float16]:
        """float16 (rows, blocks), or a refusal if blocks would have to hold two scales or another
        one."""
        blocks = matrix.columns // self._block
        if weights.scales is None:
            with np.errstate(over="ignore"):
                half = np.float16(weights.scale)
            if float(half) != weights.scale:
                raise ConversionError(
                    f"{self._path}: tensor {matrix.name!r}: its scale {weights.scale!r} is no "
                    f"float16 number, and {self._type} has float16 scales; i2_s has float32 ones"
                )
            return np.full((matrix.rows, blocks), half)
        scales = weights.scales.reshape(matrix.rows, blocks, -1)
        codes = weights.codes.reshape(matrix.rows, blocks, scales.shape[2], -1)
        # the scale of a group of zeros does not matter
        used = np.where((codes != 1).any(axis=3), scales, np.float32(0))
        found = used.max(axis=2)
        if ((used != found[:, :, None]) & (used != 0)).any():
            raise ConversionError(
                f"{self._path}: tensor {matrix.name!r}: scales differ within {self._block} "
                f"columns, which share one in {self._type}"
            )
        halves: NDArray[np.float16] = found.astype(np.float16)
        return halves


def _interleaved(rows: NDArray[Any], head_dim: int) -> NDArray[Any]:
    """Rows of q or k in the order of llama.cpp's arch `llama`, if head_dim is not 0."""
    if not head_dim:
        return rows
    halves = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
