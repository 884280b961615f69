"""From tensors of a checkpoint to the matrices of the kernels. Shared by all families."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..kernels.elementwise import reciprocal
from ..kernels.head import ScreenedHead
from ..kernels.ternary_matrix import TernaryMatrix
from ..kernels.packing import pack_float, pack_hf, whole_layout
from .arena import Arena
from .base import LoadOptions
from .quantization import Quantization
from .stored_ternary import find_scales

__all__ = [
    "FLOAT_DTYPES",
    "WEIGHT_FORMATS",
    "Layouts",
    "WeightLoader",
    "format_of",
    "layouts_of",
    "refuse_other_head",
    "refuse_unused",
]

FLOAT_DTYPES = ("BF16", "F16", "F32")
COMPARED = 1 << 20  # weights compared in one go


class Layouts(NamedTuple):
    """The layouts of the kernels (keys of packing.LAYOUTS) that make up a format: for matrices that
    are always read as a whole, and for those whose rows or columns may be skipped."""

    whole: str
    rows: str
    columns: str


# How ternary weights can be kept. A table needs all of its rows, so matrices whose rows or columns
# may be skipped have two bits a weight.
WEIGHT_FORMATS = {
    "2bit": Layouts("tiles", "rows", "columns"),
    "1.6bit": Layouts("trits", "trit_rows", "trit_columns"),
    "table": Layouts("tables", "rows", "columns"),
}

# From this hidden size on, weights are read from memory. Smaller ones fit into caches, where fewer
# bytes gain nothing.
LARGE = 2048


def layouts_of(weight_format: str | None, hidden_size: int) -> Layouts:
    """The layouts of a key of WEIGHT_FORMATS. None: for a large model the format that the tier in
    use is fastest with, "2bit" for others."""
    if weight_format is None:
        weight_format = _format_of(whole_layout()) if hidden_size >= LARGE else "2bit"
    return WEIGHT_FORMATS[weight_format]


def format_of(matrix: TernaryMatrix) -> str:
    """The key of WEIGHT_FORMATS of a matrix that is always read as a whole."""
    return _format_of(matrix.layout)


def _format_of(whole: str) -> str:
    return next(name for name, layouts in WEIGHT_FORMATS.items() if layouts.whole == whole)


@dataclass
class WeightLoader:
    """Reads tensors of one checkpoint by name, checks them, and counts progress.

    Names are given without "model.", which some checkpoints leave out.

    Parameters
    ----------
    quantization : Quantization
    masters : bool
        Whether all float weights of projections are masters, even if they are ternary already.
    total : int
        Number of matrices that will be loaded, for progress.
    layout : key of packing.LAYOUTS
        The layout of matrices for which no other is given.
    """

    checkpoint: Checkpoint
    options: LoadOptions
    quantization: Quantization
    masters: bool
    total: int
    layout: str
    done: int = 0
    n_parameters: int = 0

    def __post_init__(self) -> None:
        self.used: set[str] = set()
        self.arena = Arena()
        bare = "embed_tokens.weight" in self.checkpoint
        self._prefix = "" if bare else "model."

    def vector(
        self, name: str, size: int, offset: float = 0.0, multiplier: float = 1.0
    ) -> NDArray[np.float32]:
        """A norm's weights or a bias: (stored + offset) * multiplier as float32 (size,)."""
        name = self._prefix + name
        values = to_float32(self._take(name, FLOAT_DTYPES, (size,)))
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise self._wrong(name, f"element {bad} is {values[bad]}")
        if offset:
            values = values + np.float32(offset)
        return values if multiplier == 1 else values * np.float32(multiplier)

    def dense(self, name: str, rows: int, columns: int) -> Tensor:
        """A float matrix (rows, columns) in its stored dtype: embedding or head."""
        name = name if name.startswith("lm_head.") else self._prefix + name
        return self._take(name, FLOAT_DTYPES, (rows, columns))

    def ternary(
        self, prefix: str, rows: int, columns: int, layout: str | None = None
    ) -> TernaryMatrix:
        """A projection from `prefix.weight`: packed bytes with `prefix.weight_scale`, or floats. The
        dtype of the tensor decides, not the config. `layout` is as in `TernaryMatrix`; None: the
        layout of the loader."""
        layout = self.layout if layout is None else layout
        name = f"{self._prefix}{prefix}.weight"
        if self.checkpoint.info(name).dtype == "U8":
            matrix = self._packed(name, f"{name}_scale", rows, columns, layout)
        else:
            matrix = self._floats(name, rows, columns, layout)
        self.options.packed.keep(f"{name}:{layout}", matrix.codes)
        self.options.packed.keep(f"{name}:scale", np.array([matrix.scale], np.float32))
        self.checkpoint.release(name)
        self.done += 1
        if self.options.progress is not None:
            self.options.progress(self.done, self.total, "loading weights")
        return matrix

    def _packed(
        self, name: str, scale_name: str, rows: int, columns: int, layout: str
    ) -> TernaryMatrix:
        tensor = self._take(name, ("U8",), ((rows + 3) // 4, columns))
        self.n_parameters += rows * columns - tensor.array.size
        scale_tensor = self._take(scale_name, FLOAT_DTYPES, None)
        if scale_tensor.array.size != 1:
            raise self._wrong(scale_name, f"shape {scale_tensor.array.shape} is not one number")
        if not self.quantization.bitnet:
            raise FormatError(
                f"{self.checkpoint.path}: config.json has no quantization_config, which says "
                f"whether packed weights such as {name!r} are multiplied or divided by their scale"
            )
        if (found := self._packed_before(name, rows, columns, layout)) is not None:
            return found
        scale = float(to_float32(scale_tensor).reshape(1)[0])
        multiplier = reciprocal(scale) if self.quantization.divides else scale
        if not (math.isfinite(scale) and math.isfinite(multiplier) and multiplier > 0):
            raise self._wrong(scale_name, f"a scale cannot be {scale}")
        codes, clean = pack_hf(
            tensor.array, rows, self.options.n_threads, self.arena.allocate, layout
        )
        if not clean:
            raise self._wrong(name, "a weight has code 3; only 0, 1, 2 (for -1, 0, +1) exist")
        return TernaryMatrix(codes, rows, columns, multiplier, layout)

    def _floats(self, name: str, rows: int, columns: int, layout: str) -> TernaryMatrix:
        """Weights that are ternary already, or masters, which absmean makes ternary."""
        tensor = self._take(name, FLOAT_DTYPES, (rows, columns))
        if (found := self._packed_before(name, rows, columns, layout)) is not None:
            return found
        scale = None if self.masters else self._stored_scale(tensor)
        codes, absmean = pack_float(
            tensor.array, tensor.dtype, self.options.n_threads, self.arena.allocate, layout
        )
        if not math.isfinite(absmean):
            raise self._wrong(name, "a weight is NaN or infinite")
        # Absmean has the same codes: divided by their mean, weights that are not 0 are at least 1.
        return TernaryMatrix(codes, rows, columns, scale or absmean, layout)

    def _stored_scale(self, tensor: Tensor) -> float | None:
        """The scale of weights that are ternary already, or None for masters."""
        try:
            scales = find_scales(tensor)
        except FormatError as error:
            raise FormatError(f"{self.checkpoint.info(tensor.name).file}: {error}") from None
        if scales is None:
            if self.quantization.bitnet:
                return None
            raise UnsupportedModelError(
                f"{self.checkpoint.path}: tensor {tensor.name!r} is not ternary, and config.json "
                "has no quantization_config that says it will be; this is no ternary model"
            )
        if scales.one is None:
            raise UnsupportedModelError(
                f"{self.checkpoint.path}: tensor {tensor.name!r}: a scale for every {scales.group} "
                "weights of a row is not supported"
            )
        return scales.one

    def _packed_before(
        self, name: str, rows: int, columns: int, layout: str
    ) -> TernaryMatrix | None:
        """The matrix as an earlier load packed and checked it, or None. The data of the tensor are
        not read."""
        packed = self.options.packed
        codes, scale = packed.get(f"{name}:{layout}"), packed.get(f"{name}:scale")
        if codes is None or scale is None:
            return None
        try:
            if scale.dtype != np.float32 or scale.shape != (1,) or not 0 < scale[0] < math.inf:
                raise ValueError(f"a scale cannot be {scale.dtype} {scale}")
            return TernaryMatrix(codes, rows, columns, float(scale[0]), layout)
        except ValueError as error:
            self.options.packed.refuse(name, error)
            return None

    def screen(self, head: Tensor) -> ScreenedHead:
        """The screen of an output head that `dense` returned.

        Raises
        ------
        FormatError
            If a weight is NaN or infinite.
        """
        blocks = self.options.packed.get(f"{head.name}:screen")
        stats = self.options.packed.get(f"{head.name}:screen_stats")
        screen = None
        if blocks is not None and stats is not None:
            try:
                screen = ScreenedHead(
                    head.array, head.dtype, self.options.n_threads, packed=(blocks, stats)
                )
            except ValueError as error:
                self.options.packed.refuse(head.name, error)
        if screen is None:
            screen = ScreenedHead(
                head.array, head.dtype, self.options.n_threads, self.arena.allocate
            )
        if not screen.finite:
            raise self._wrong(head.name, "a weight is NaN or infinite")
        self.options.packed.keep(f"{head.name}:screen", screen.blocks)
        self.options.packed.keep(f"{head.name}:screen_stats", screen.stats)
        self.checkpoint.release(head.name)  # from now on only a few of its rows are read
        return screen

    def _take(self, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...] | None) -> Tensor:
        tensor = self.checkpoint.tensor(name, dtypes=dtypes, shape=shape)
        self.used.add(name)
        self.n_parameters += tensor.array.size
        return tensor

    def _wrong(self, name: str, what: str) -> FormatError:
        return FormatError(f"{self.checkpoint.info(name).file}: tensor {name!r}: {what}")


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """Stored floats as float32, exactly."""
    if tensor.dtype == "BF16":
        return (tensor.array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(tensor.array, dtype=np.float32)


def refuse_other_head(checkpoint: Checkpoint, embedding: Tensor) -> None:
    """Refuse a stored head that differs from the embedding that config.json ties it to.

    Raises
    ------
    FormatError
    """
    head = checkpoint.tensor("lm_head.weight", dtypes=FLOAT_DTYPES, shape=embedding.array.shape)
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
