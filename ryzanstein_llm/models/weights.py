"""From tensors of a checkpoint to the matrices of the kernels. Shared by all families."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, InvalidParameterError, UnsupportedModelError
from ..formats import Checkpoint, Tensor
from ..kernels.encodings import Problem
from ..kernels.group_scales import check_group_scales
from ..kernels.head import ScreenedHead
from ..kernels.packing import GROUP_LAYOUTS, pack_float, pack_source, whole_layout
from ..kernels.sources import TernarySource
from ..kernels.ternary_matrix import TernaryMatrix
from .arena import Arena, detached
from .base import LoadOptions
from .projections import FLOAT_DTYPES, Masters, ProjectionReader, problem_text, to_float32
from .quantization import Quantization
from .untrained import warn_if_alike, warn_if_zero

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
    """The key of WEIGHT_FORMATS of a matrix that is always read as a whole; for one with scales of
    groups the name of its layout."""
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
        The layout of matrices for which no other is given, if they have one scale.

    Attributes
    ----------
    group_layout : key of packing.GROUP_LAYOUTS, or None
        The layout of all matrices, if their scales change within rows or activations are not
        quantised for each token. The first projection decides.
    activations : key of ternary_matrix.QUANTIZATIONS
        What becomes of the inputs of projections.
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
        self.arena = Arena()
        bare = "embed_tokens.weight" in self.checkpoint
        self._prefix = "" if bare else "model."
        self._reader = ProjectionReader(self.checkpoint, self.quantization, self.masters)
        self.group_layout: str | None = None
        trained = self.quantization.bitnet or self.masters
        self.activations = "token" if trained else "group"
        if self.options.activations == "float32":
            if trained:
                raise InvalidParameterError(
                    "'float32' is for models that were trained without quantised activations, and "
                    f"{self.checkpoint.path} was trained with int8 ones",
                    "activations",
                )
            self.activations = "none"

    @property
    def used(self) -> set[str]:
        """The names of all tensors that were read."""
        return self._reader.used

    def choose_layout(self, prefix: str, rows: int, columns: int) -> None:
        """Sets `group_layout` from the first projection of the model."""
        found = self._reader.read(f"{self._prefix}{prefix}.weight", rows, columns)
        if isinstance(found, Masters):
            return
        one_scale = found[0].common_scale(self.options.n_threads) is not None
        if self.activations != "token" or not one_scale:
            self.group_layout = "groups64" if found[0].group == 64 else "groups128"
            if self.options.weight_format not in (None, "2bit"):
                raise UnsupportedModelError(
                    f"{self.checkpoint.path}: weights with a scale for each group can only be kept "
                    f"with two bits, not as {self.options.weight_format!r}"
                )

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
        """A float matrix (rows, columns) in its stored dtype: embedding or head. Block types of
        GGUF are decoded to F32."""
        name = name if name.startswith("lm_head.") else self._prefix + name
        return self._take(name, (rows, columns))

    def ternary_or_dense(self, prefix: str, rows: int, columns: int) -> TernaryMatrix | Tensor:
        """An embedding or a head: ternary in groups if it is stored so, otherwise floats."""
        name = prefix if prefix == "lm_head" else self._prefix + prefix
        if self.activations == "token" or not self._reader.is_ternary(f"{name}.weight"):
            return self.dense(f"{prefix}.weight", rows, columns)
        return self._matrix(f"{name}.weight", rows, columns, self.layout)

    def ternary(
        self, prefix: str, rows: int, columns: int, layout: str | None = None, head_dim: int = 0
    ) -> TernaryMatrix:
        """A projection from `prefix.weight`. `layout` is as in `TernaryMatrix`, for matrices with
        one scale; None: the layout of the loader. `head_dim` is as in `TernarySource`."""
        name = f"{self._prefix}{prefix}.weight"
        return self._matrix(name, rows, columns, layout or self.layout, head_dim)

    def _matrix(
        self, name: str, rows: int, columns: int, layout: str, head_dim: int = 0
    ) -> TernaryMatrix:
        layout = self.group_layout or layout
        found = self._reader.read(name, rows, columns, head_dim)
        self.n_parameters += rows * columns
        matrix = self._packed_before(name, rows, columns, layout) or self._pack(
            name, found, rows, columns, layout
        )
        warn_if_alike(self.checkpoint, name, matrix.codes)
        self.options.packed.keep(f"{name}:{layout}", matrix.codes)
        self.options.packed.keep(f"{name}:scale", np.array([matrix.scale], np.float32))
        self.checkpoint.release(name)
        self.done += 1
        if self.options.progress is not None:
            self.options.progress(self.done, self.total, "loading weights")
        return matrix

    def _pack(
        self,
        name: str,
        found: list[TernarySource] | Masters,
        rows: int,
        columns: int,
        layout: str,
    ) -> TernaryMatrix:
        threads, allocate = self.options.n_threads, self.arena.allocate
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
            if self.group_layout is None:
                common = source.common_scale(threads)
                if common is None:
                    continue
                scale = common or 1.0  # 0: all weights are 0
            elif source.group < source.columns and source.group % GROUP_LAYOUTS[layout]:
                continue
            codes, problem = pack_source(source, threads, allocate, layout)
            if problem is None:
                activations = self.activations if self.group_layout is not None else None
                return TernaryMatrix(codes, rows, columns, scale, layout, activations)
            if problem is not Problem.FLOATS:
                break
        if problem is None:
            raise UnsupportedModelError(
                f"{self.checkpoint.info(name).file}: tensor {name!r}: its scales are for fewer "
                "columns than those of the first projection, which is not supported"
            )
        raise self._wrong(name, problem_text(problem, found[0].encoding))

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
            kind = self.activations if self.group_layout is not None else None
            matrix = TernaryMatrix(codes, rows, columns, float(scale[0]), layout, kind)
            check_group_scales(matrix)
            return matrix
        except ValueError as error:
            packed.refuse(name, error)

    def screen(self, head: Tensor) -> ScreenedHead:
        """The screen of an output head that `dense` returned.

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
            screen = ScreenedHead(*stored, self.arena.allocate)
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
