"""Which tensors a decoder reads, and the layout of each matrix: decided once, before any is packed.

Loading, the estimate of memory and conversion all follow this plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidParameterError, UnsupportedModelError
from ..formats import Checkpoint
from ..kernels.head import MAX_SCREEN_COLUMNS
from ..kernels.packing import GROUP_LAYOUTS, whole_layout
from ..kernels.ternary_matrix import TernaryMatrix
from .base import LoadOptions
from .config import DecoderConfig
from .description import PROJECTIONS, Description
from .projections import Masters, ProjectionReader

__all__ = [
    "WEIGHT_FORMATS",
    "DecoderPlan",
    "LayerPlan",
    "Layouts",
    "MatrixPlan",
    "VectorPlan",
    "format_of",
    "plan_decoder",
]


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

# Rows of `up` and columns of `down` with at least this many weights, about 512 bytes, are worth
# skipping. Jumping over shorter runs of memory costs as much as reading them.
SKIPPING_PAYS = 2048


def format_of(matrix: TernaryMatrix) -> str:
    """The key of WEIGHT_FORMATS of a matrix that is always read as a whole; for one with scales of
    groups the name of its layout."""
    return matrix.layout if matrix.layout in GROUP_LAYOUTS else _format_of(matrix.layout)


def _format_of(whole: str) -> str:
    return next(name for name, layouts in WEIGHT_FORMATS.items() if layouts.whole == whole)


@dataclass(frozen=True)
class MatrixPlan:
    """A matrix (rows, columns). `layout` is as in `TernaryMatrix`; None: floats as they are stored.
    `head_dim` is as in `TernarySource`."""

    name: str
    rows: int
    columns: int
    layout: str | None
    head_dim: int = 0


@dataclass(frozen=True)
class VectorPlan:
    """A norm's weights or a bias: (stored + offset) * multiplier."""

    name: str
    size: int
    offset: float = 0.0
    multiplier: float = 1.0


@dataclass(frozen=True)
class LayerPlan:
    """Parts of a layer by the names that `DecoderLayer` has for them.

    Attributes
    ----------
    matrices : from keys of PROJECTIONS, in the order of use
    norms : from parameters of `DecoderLayer`; those of parts that the layer lacks are not there
    projection_norms, biases : from keys of PROJECTIONS
    """

    matrices: Mapping[str, MatrixPlan]
    norms: Mapping[str, VectorPlan]
    projection_norms: Mapping[str, VectorPlan]
    biases: Mapping[str, VectorPlan]

    @property
    def vectors(self) -> Iterator[VectorPlan]:
        """All norms and biases."""
        for group in (self.norms, self.projection_norms, self.biases):
            yield from group.values()


@dataclass(frozen=True)
class DecoderPlan:
    """
    Attributes
    ----------
    description : Description
    activations : key of ternary_matrix.QUANTIZATIONS
        What becomes of the inputs of projections.
    absmean : bool
        Whether the first projection is float masters, which absmean makes ternary.
    group_layout : key of packing.GROUP_LAYOUTS, or None
        The layout of all ternary matrices, if their scales change within rows or activations are
        not quantised for each token. The first projection decides.
    embedding : MatrixPlan
    head : MatrixPlan or None
        None: the embedding.
    screened : bool
        Whether the head gets a screen.
    final_norm : VectorPlan
    layers : tuple of LayerPlan
    """

    description: Description
    activations: str
    absmean: bool
    group_layout: str | None
    embedding: MatrixPlan
    head: MatrixPlan | None
    screened: bool
    final_norm: VectorPlan
    layers: tuple[LayerPlan, ...]

    @property
    def matrices(self) -> Iterator[MatrixPlan]:
        """Embedding, head unless it is the embedding, and those of all layers, in the order in
        which they are loaded."""
        yield self.embedding
        if self.head is not None:
            yield self.head
        for layer in self.layers:
            yield from layer.matrices.values()

    @property
    def vectors(self) -> Iterator[VectorPlan]:
        """All norms and biases."""
        for layer in self.layers:
            yield from layer.vectors
        yield self.final_norm

    @property
    def n_parameters(self) -> int:
        """The number of weights of all matrices, norms and biases."""
        matrices = sum(matrix.rows * matrix.columns for matrix in self.matrices)
        return matrices + sum(vector.size for vector in self.vectors)


def plan_decoder(
    checkpoint: Checkpoint, options: LoadOptions, description: Description
) -> DecoderPlan:
    """The plan of a decoder. Of tensor data, the scales of the first projection are read, and some
    rows of the embedding and the head. For errors see `models.prepare_model`."""
    return _Planner(checkpoint, options, description).plan()


class _Planner:
    def __init__(
        self, checkpoint: Checkpoint, options: LoadOptions, description: Description
    ) -> None:
        self._checkpoint, self._options, self._description = checkpoint, options, description
        self._config: DecoderConfig = description.config
        # some checkpoints leave out "model."
        self._prefix = "" if "embed_tokens.weight" in checkpoint else "model."
        self._reader = ProjectionReader(checkpoint, self._config.quantization, description.masters)
        hidden, ffn = self._config.hidden_size, self._config.intermediate_size
        q_width, kv_width = self._config.q_width, self._config.kv_width
        self._shapes = {  # (rows, columns)
            "q": (q_width, hidden),
            "k": (kv_width, hidden),
            "v": (kv_width, hidden),
            "o": (hidden, q_width),
            "gate": (ffn, hidden),
            "up": (ffn, hidden),
            "down": (hidden, ffn),
        }
        self._activations = self._chosen_activations()
        first = f"{self._prefix}layers.0.{PROJECTIONS['q']}.weight"
        self._first = self._reader.read(first, *self._shapes["q"])
        self._group_layout = self._chosen_group_layout()
        self._layouts = self._chosen_layouts()

    def plan(self) -> DecoderPlan:
        config, embeds = self._config, self._description.names.projection_norm is not None
        embedding = self._embedding(f"{self._prefix}embed_tokens.weight")
        head = None if config.tied_head else self._embedding("lm_head.weight")
        ternary_head = (head or embedding).layout is not None
        return DecoderPlan(
            self._description,
            self._activations,
            isinstance(self._first, Masters),
            self._group_layout,
            embedding,
            head,
            not ternary_head and not embeds and config.hidden_size <= MAX_SCREEN_COLUMNS,
            VectorPlan(
                f"{self._prefix}norm.weight", config.hidden_size,
                config.norm_offset, config.logits_multiplier,
            ),
            tuple(self._layer(index) for index in range(config.n_layers)),
        )  # fmt: skip

    def _chosen_activations(self) -> str:
        trained = self._config.quantization.bitnet or self._description.masters
        if self._options.activations != "float32":
            return "token" if trained else "group"
        if trained:
            raise InvalidParameterError(
                "'float32' is for models that were trained without quantised activations, and "
                f"{self._checkpoint.path} was trained with int8 ones",
                "activations",
            )
        return "none"

    def _chosen_group_layout(self) -> str | None:
        found = self._first
        if isinstance(found, Masters):
            return None
        one_scale = found[0].common_scale(self._options.n_threads) is not None
        if self._activations == "token" and one_scale:
            return None
        if self._options.weight_format not in (None, "2bit"):
            raise UnsupportedModelError(
                f"{self._checkpoint.path}: weights with a scale for each group can only be kept "
                f"with two bits, not as {self._options.weight_format!r}"
            )
        return "groups64" if found[0].group == 64 else "groups128"

    def _chosen_layouts(self) -> Mapping[str, str]:
        """The layout of each projection, for matrices with one scale. None given: for a large model
        the format that the tier in use is fastest with, "2bit" for others."""
        hidden, skipping = self._config.hidden_size, self._options.skipping
        weight_format = self._options.weight_format
        if weight_format is None:
            weight_format = _format_of(whole_layout()) if hidden >= LARGE else "2bit"
        layouts = WEIGHT_FORMATS[weight_format]
        found = dict.fromkeys(PROJECTIONS, layouts.whole)
        if skipping is None:
            skipping = hidden >= SKIPPING_PAYS
        if skipping and self._config.activation == "relu2":
            found.update(up=layouts.rows, down=layouts.columns)
        return found

    def _embedding(self, name: str) -> MatrixPlan:
        """An embedding or a head: ternary in groups if it is stored so, otherwise floats."""
        layout = None
        if self._activations != "token" and self._reader.is_ternary(name):
            layout = self._group_layout or self._layouts["q"]
        return MatrixPlan(name, self._config.vocab_size, self._config.hidden_size, layout)

    def _layer(self, index: int) -> LayerPlan:
        config, names = self._config, self._description.names
        at = f"{self._prefix}layers.{index}"
        hidden, offset = config.hidden_size, config.norm_offset
        norms = {
            "input_norm": (names.input_norm, hidden, offset),
            "attention_sub_norm": (names.attention_sub_norm, config.q_width, 0.0),
            "post_attention_norm": (names.post_attention_norm, hidden, offset),
            "ffn_sub_norm": (names.ffn_sub_norm, config.intermediate_size, 0.0),
            "q_norm": (names.q_norm, config.head_dim, offset),
            "k_norm": (names.k_norm, config.head_dim, offset),
            "attention_output_norm": (names.attention_output_norm, hidden, offset),
            "ffn_output_norm": (names.ffn_output_norm, hidden, offset),
        }
        biases = {
            *names.biases,
            *("qkvo" if config.attention_bias else ()),
            *(("gate", "up", "down") if config.mlp_bias else ()),
        }
        return LayerPlan(
            {
                part: MatrixPlan(
                    f"{at}.{name}.weight",
                    *self._shapes[part],
                    self._group_layout or self._layouts[part],
                    config.head_dim if config.interleaved and part in ("q", "k") else 0,
                )
                for part, name in PROJECTIONS.items()
            },
            {
                part: VectorPlan(f"{at}.{name}.weight", size, plus)
                for part, (name, size, plus) in norms.items()
                if name is not None
            },
            {
                part: VectorPlan(f"{at}.{name}.{names.projection_norm}.weight", columns)
                for part, name in PROJECTIONS.items()
                if names.projection_norm is not None
                for columns in [self._shapes[part][1]]
            },
            {
                part: VectorPlan(f"{at}.{PROJECTIONS[part]}.bias", self._shapes[part][0])
                for part in sorted(biases)
            },
        )
