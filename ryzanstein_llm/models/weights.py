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
from ..kernels.encodings import ENCODINGS
from ..kernels.head import ScreenedHead
from ..kernels.packing import GROUP_LAYOUTS, pack_float, pack_source, whole_layout
from ..kernels.ternary_matrix import TernaryMatrix
from .arena import Arena
from .base import LoadOptions
from .quantization import Quantization
from .stored_matrix import FLOAT_DTYPES, StoredMatrix, find_matrix, to_float32

__all__ = [
    "WEIGHT_FORMATS",
    "Layouts",
    "WeightLoader",
    "format_of",
    "layouts_of",
    "refuse_other_head",
    "refuse_unused",
]

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
    """The key of WEIGHT_FORMATS of a matrix that is always read as a whole; of one in groups its
    layout."""
    return matrix.layout if matrix.layout in GROUP_LAYOUTS else _format_of(matrix.layout)


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
        values = to_float32(self._take(name, (size,)))
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise self._wrong(name, f"element {bad} is {values[bad]}")
        if offset:
            values = values + np.float32(offset)
        return values if multiplier == 1 else values * np.float32(multiplier)

    def dense(self, name: str, rows: int, columns: int) -> Tensor:
        """A float matrix (rows, columns) in its stored dtype: embedding or head."""
        name = name if name.startswith("lm_head.") else self._prefix + name
        return self._take(name, (rows, columns))

    def ternary(
        self,
        prefix: str,
        rows: int,
        columns: int,
        layout: str | None = None,
        head_dim: int = 0,
    ) -> TernaryMatrix:
        """A projection, from the tensors of `find_matrix`.

        A matrix with one scale, of a model that was trained with int8 activations, gets `layout`
        (None: that of the loader). Others get a layout of groups. `head_dim` is as in
        `StoredMatrix`.
        """
        name = self._prefix + prefix
        stored = find_matrix(self.checkpoint, name, rows, columns, self.quantization, head_dim)
        return self._matrix(stored, self.layout if layout is None else layout)

    def ternary_or_dense(self, prefix: str, rows: int, columns: int) -> TernaryMatrix | Tensor:
        """An embedding or a head: ternary in groups if it is stored so, otherwise floats."""
        name = prefix if prefix == "lm_head" else self._prefix + prefix
        info = self.checkpoint.info(f"{name}.weight")
        if not self.quantization.bitnet:
            if info.dtype in ENCODINGS or info.dtype == "U32":
                stored = find_matrix(self.checkpoint, name, rows, columns, self.quantization)
                return self._matrix(stored, self.layout)
            if info.dtype in FLOAT_DTYPES:
                stored = find_matrix(self.checkpoint, name, rows, columns, self.quantization)
                if self._packed_layout(stored.name) or stored.ternary_source() is not None:
                    return self._matrix(stored, self.layout)
        return self.dense(f"{prefix}.weight", rows, columns)

    def _matrix(self, stored: StoredMatrix, layout: str) -> TernaryMatrix:
        name = stored.name
        self.used.update((name, *stored.companions))
        self.n_parameters += stored.rows * stored.columns
        matrix = self._packed_before(stored, layout) or self._pack(stored, layout)
        self.options.packed.keep(f"{name}:{matrix.layout}", matrix.codes)
        self.options.packed.keep(f"{name}:scale", np.array([matrix.scale], np.float32))
        for part in (name, *stored.companions):
            self.checkpoint.release(part)
        self.done += 1
        if self.options.progress is not None:
            self.options.progress(self.done, self.total, "loading weights")
        return matrix

    def _pack(self, stored: StoredMatrix, layout: str) -> TernaryMatrix:
        masters = self.masters and stored.floats is not None
        source = None if masters else stored.ternary_source()
        if source is None:
            return self._pack_masters(stored, layout)
        threads, allocate = self.options.n_threads, self.arena.allocate
        scale = source.common_scale(threads) if self.quantization.bitnet else None
        if scale is None:  # several scales, or activations that were not quantised in training
            layout = "groups64" if source.group % 128 else "groups128"
        codes, problem = pack_source(source, threads, allocate, layout)
        if problem is not None:
            raise stored.failure(problem)
        # All weights may be zero, and then have any scale.
        return self._described(stored, codes, scale or 1.0, layout)

    def _pack_masters(self, stored: StoredMatrix, layout: str) -> TernaryMatrix:
        """Floats that absmean makes ternary."""
        assert stored.floats is not None
        if not (self.quantization.bitnet or self.masters):
            raise UnsupportedModelError(
                f"{self.checkpoint.path}: tensor {stored.name!r} is not ternary, and config.json "
                "has no quantization_config that says it will be; this is no ternary model"
            )
        array = stored.floats.array
        if stored.head_dim:
            array = array.reshape(-1, stored.head_dim // 2, 2, stored.columns)
            array = np.ascontiguousarray(array.swapaxes(1, 2)).reshape(stored.rows, stored.columns)
        codes, scale = pack_float(
            array, stored.floats.dtype, self.options.n_threads, self.arena.allocate, layout
        )
        if not math.isfinite(scale):
            raise stored.wrong("a weight is NaN or infinite")
        return self._described(stored, codes, scale, layout)

    def _described(
        self, stored: StoredMatrix, codes: NDArray[np.uint8], scale: float, layout: str
    ) -> TernaryMatrix:
        quantization = None
        if layout in GROUP_LAYOUTS:
            quantization = "token" if self.quantization.bitnet else self.options.input_quantization
        return TernaryMatrix(codes, stored.rows, stored.columns, scale, layout, quantization)

    def _packed_layout(self, name: str) -> str | None:
        """The layout of groups in which an earlier load packed a tensor."""
        packed = self.options.packed
        return next((layout for layout in GROUP_LAYOUTS if packed.has(f"{name}:{layout}")), None)

    def _packed_before(self, stored: StoredMatrix, layout: str) -> TernaryMatrix | None:
        """The matrix as an earlier load packed and checked it, or None. The data of the tensor are
        not read."""
        packed, name = self.options.packed, stored.name
        layout = self._packed_layout(name) or layout
        codes, scale = packed.get(f"{name}:{layout}"), packed.get(f"{name}:scale")
        if codes is None or scale is None:
            return None
        try:
            if scale.dtype != np.float32 or scale.shape != (1,) or not 0 < scale[0] < math.inf:
                raise ValueError(f"a scale cannot be {scale.dtype} {scale}")
            return self._described(stored, codes, float(scale[0]), layout)
        except ValueError as error:
            packed.refuse(name, error)
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

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.checkpoint.floats(name, shape=shape)
        self.used.add(name)
        self.n_parameters += tensor.array.size
        return tensor

    def _wrong(self, name: str, what: str) -> FormatError:
        return FormatError(f"{self.checkpoint.info(name).file}: tensor {name!r}: {what}")


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
