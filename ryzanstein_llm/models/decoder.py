"""The graph of a decoder: embedding, layers that add to a residual stream, output head.

Each family has its sizes and tensors in a file of its own. The computation is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..interfaces.head_query import Candidates, HeadQuery
from ..interfaces.kv_layout import KVLayout, Segment
from ..kernels.decoder import decoder_layers
from ..kernels.decoder_layer import DecoderLayer
from ..kernels.elementwise import inverse_square_root
from ..kernels.workspace import Workspace
from .config import DecoderConfig
from .embedding import FloatEmbedding, TernaryEmbedding
from .head import Head
from .plan import format_of
from .rope import RotaryTable

__all__ = ["Decoder"]

Float32 = NDArray[np.float32]

CALL_ROWS = 64
"""Tokens times layers in one compute call. One token runs through all layers in one call; calls for
a prompt are short enough for Ctrl-C to be noticed."""


class Decoder:
    """See `base.CausalLM` for the interface.

    Parameters
    ----------
    family : str
    config : DecoderConfig
    embedding : FloatEmbedding or TernaryEmbedding
    layers : list of DecoderLayer
    head : Head
    n_parameters : int
    generates : bool
        Whether it was trained to continue texts.
    """

    def __init__(
        self,
        family: str,
        config: DecoderConfig,
        embedding: FloatEmbedding | TernaryEmbedding,
        layers: list[DecoderLayer],
        head: Head,
        n_parameters: int,
        *,
        generates: bool = True,
    ) -> None:
        self.family, self.config, self.n_parameters = family, config, n_parameters
        self.generates = generates
        self.embedding, self.layers, self.head = embedding, layers, head
        self.score_scale = config.score_scale or inverse_square_root(config.head_dim)
        ropes = [config.rope] if config.window is None else [config.rope, config.window.rope]
        # that of most layers, and that of layers with a window
        self.rotary = [RotaryTable(rope, config.head_dim, config.context_length) for rope in ropes]

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, in memory or mapped."""
        matrices = sum(matrix.nbytes for layer in self.layers for matrix in layer.matrices)
        tied = getattr(self.head, "matrix", None) is self.embedding.matrix
        head = 0 if tied else self.head.nbytes
        return matrices + self.embedding.nbytes + head + self.head.screen_bytes

    @property
    def weight_format(self) -> str:
        """How ternary weights are kept."""
        return format_of(self.layers[0].q)

    def kv_layout(self, kind: str) -> KVLayout:
        config = self.config
        return KVLayout(kind, config.n_layers, config.n_kv_heads, config.head_dim)

    def hidden_states(
        self,
        ids: NDArray[np.int64],
        segments: Sequence[Segment],
        layout: KVLayout,
        workspace: Workspace,
        between: Callable[[], None] | None = None,
    ) -> Float32:
        config, n = self.config, len(ids)
        positions = max(position + rows for rows, position, _ in segments)
        rotary = [table.tables(positions) for table in self.rotary]

        hidden = self.embedding.rows(ids)  # (n, hidden): the residual stream
        qkv = np.empty((n, config.q_width + 2 * config.kv_width), np.float32)
        attended = np.empty((n, config.q_width), np.float32)
        gated = np.empty((n, config.intermediate_size), np.float32)
        together = max(1, CALL_ROWS // n)
        for first in range(0, config.n_layers, together):
            if between is not None and first:
                between()
            decoder_layers(
                hidden, self.layers[first : first + together], first, segments, layout,
                config.n_heads, rotary, self.score_scale, qkv, attended, gated, workspace,
            )  # fmt: skip
        return hidden

    def logits(self, hidden: Float32, workspace: Workspace) -> Float32:
        return self.head.logits(hidden, workspace)

    def candidates(
        self, hidden: Float32, queries: Sequence[HeadQuery], workspace: Workspace
    ) -> list[Candidates]:
        return self.head.candidates(hidden, queries, workspace)
