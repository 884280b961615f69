"""A model as a folder for transformers: config.json, model.safetensors, and its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError
from ..formats import Checkpoint
from ..formats.json_file import read_bytes
from ..formats.new_file import NewFile, replace_bytes, replace_text
from ..formats.safetensors_writer import TensorPlan, encode_header, write_data
from ..formats.ternary_blocks import pack_hf_codes
from ..models.plan import MatrixPlan, VectorPlan
from ..models.projections import FLOAT_DTYPES
from ..text.gguf_tokenizer import build_tokenizer, tokenizer_config
from .source import Source

__all__ = ["SafetensorsTarget"]

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip

GENERATION_CONFIG = "generation_config.json"

ROWS = 1024  # of a matrix, written at a time

PACKED = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}

# Keys that only stand for how GGUF or MLX store a model.
OF_OTHER_FORMS = ("rope_interleave", "norm_offset", "quantization", "quantization_config")


class SafetensorsTarget:
    """Plans the files, and writes them into a folder.

    Raises
    ------
    ConversionError
        The form cannot hold the model.
    """

    def __init__(self, source: Source, with_tokenizer: bool) -> None:
        self._source, self._with_tokenizer = source, with_tokenizer
        config = source.checkpoint.config
        if source.checkpoint.metadata is not None and "norm_offset" in config:
            raise ConversionError(
                f"{source.checkpoint.path}: a GGUF file of this architecture has norms with 1 "
                "added, which cannot be undone exactly"
            )
        if not source.one_scale and source.plan.activations == "token":
            raise ConversionError(
                f"{source.checkpoint.path}: its scales change within a matrix and activations are "
                "int8 for each token; no form in safetensors says so"
            )
        self.tensors = list(self._tensors())

    @property
    def nbytes(self) -> int:
        """Bytes of all files, about."""
        return sum(tensor.nbytes for tensor in self.tensors) + (32 << 20) * self._with_tokenizer

    def write(self, directory: Path, written: Callable[[int, int], object]) -> None:
        """Write everything into a folder that exists. `written` gets tensors done and in all."""
        header = encode_header(self.tensors, {"format": "pt"})
        with NewFile(directory / "model.safetensors") as file:
            file.write(np.frombuffer(header, np.uint8))
            for done, tensor in enumerate(self.tensors, 1):
                write_data([tensor], file.write)
                written(done, len(self.tensors))
        _write_json(directory / "config.json", self._config())
        _write_generation_config(self._source.checkpoint, directory / GENERATION_CONFIG)
        if self._with_tokenizer:
            _write_tokenizer(self._source.checkpoint, directory)

    def _config(self) -> dict[str, Any]:
        found = self._source.checkpoint.config
        config = {key: value for key, value in found.items() if key not in OF_OTHER_FORMS}
        if self._source.one_scale:
            config["quantization_config"] = dict(PACKED)
        return config

    def _tensors(self) -> Iterator[TensorPlan]:
        plan, checkpoint = self._source.plan, self._source.checkpoint
        for matrix in plan.matrices:
            if matrix.layout is None:
                yield _floats(checkpoint, matrix)
            elif self._source.one_scale:
                yield from self._packed(matrix)
            else:
                yield self._unpacked(matrix)
        for vector in plan.vectors:
            yield _stored(checkpoint, vector)

    def _packed(self, matrix: MatrixPlan) -> Iterator[TensorPlan]:
        """Codes, and then the scale, which is known once the codes are."""
        scale = np.zeros(1, np.float32)

        def codes() -> Iterator[NDArray[Any]]:
            weights = self._source.ternary(matrix)
            scale[0] = weights.scale
            yield pack_hf_codes(weights.codes)

        shape = ((matrix.rows + 3) // 4, matrix.columns)
        yield TensorPlan(matrix.name, "U8", shape, codes)
        yield TensorPlan(f"{matrix.name}_scale", "F32", (1,), lambda: [scale])

    def _unpacked(self, matrix: MatrixPlan) -> TensorPlan:
        """Float16: each weight is a scale, its negative, or 0."""

        def values() -> Iterator[NDArray[Any]]:
            weights = self._source.ternary(matrix)
            assert weights.scales is not None
            for begin in range(0, matrix.rows, ROWS):
                part = slice(begin, begin + ROWS)
                scales = weights.scales[part].astype(np.float16)
                wide = np.repeat(scales, self._source.group, axis=1)[:, : matrix.columns]
                yield wide * (weights.codes[part].astype(np.float16) - np.float16(1))

        return TensorPlan(matrix.name, "F16", (matrix.rows, matrix.columns), values)


def _floats(checkpoint: Checkpoint, matrix: MatrixPlan) -> TensorPlan:
    """An embedding or a head as it is stored, or decoded from blocks of GGUF."""
    shape = (matrix.rows, matrix.columns)
    dtype = checkpoint.info(matrix.name).dtype
    return TensorPlan(
        matrix.name,
        dtype if dtype in FLOAT_DTYPES else "F32",
        shape,
        lambda: [checkpoint.floats(matrix.name, shape=shape).array],
    )


def _stored(checkpoint: Checkpoint, vector: VectorPlan) -> TensorPlan:
    name, shape = vector.name, (vector.size,)
    tensor = checkpoint.tensor(name, dtypes=FLOAT_DTYPES, shape=shape)
    return TensorPlan(name, tensor.dtype, shape, lambda: [tensor.array])


def _write_generation_config(checkpoint: Checkpoint, path: Path) -> None:
    if checkpoint.metadata is None:
        source = checkpoint.files[0].with_name(path.name)
        if source.is_file():
            replace_bytes(path, read_bytes(source))
    elif checkpoint.generation_config:
        _write_json(path, checkpoint.generation_config)


def _write_tokenizer(checkpoint: Checkpoint, directory: Path) -> None:
    """The files of the source, or what its metadata hold in their place."""
    if checkpoint.metadata is None:
        folder = checkpoint.files[0].parent
        for name in COPIED:
            if (folder / name).is_file():
                replace_bytes(directory / name, read_bytes(folder / name))
        return
    source = str(checkpoint.path)
    if checkpoint.metadata.get("tokenizer.ggml.model", "none") != "none":
        raw = build_tokenizer(checkpoint.metadata, source)
        replace_text(directory / "tokenizer.json", raw.to_str())
        config = tokenizer_config(checkpoint.metadata, source)
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if checkpoint.chat_template is not None:
            config["chat_template"] = checkpoint.chat_template
        _write_json(directory / "tokenizer_config.json", config)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    replace_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
