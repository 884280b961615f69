# cython: language_level=3
"""The weights of one decoder layer, put together from parts that a model may have or not."""
from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.inputs cimport describe_norm
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix

from ryzanstein_llm.kernels import linear

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


cdef class DecoderLayer:
    """The weights of one layer: attention, then a gated feed-forward block, each with a residual.

        hidden += output_norm(o @ int8(sub_norm(attention(q, k, v @ int8(input_norm(hidden))))))
        hidden += output_norm(down @ int8(sub_norm(activation(gate @ a) * (up @ a)))), a = int8(norm(hidden))

    All norms are RMSNorms, and each of them may be missing.

    Parameters
    ----------
    input_norm, post_attention_norm : float32 (hidden,) or None
        Before attention and before the feed-forward block.
    attention_sub_norm, ffn_sub_norm : float32 (heads * head_dim,), (intermediate,), or None
        Before o and before down.
    q, k, v, o, gate, up, down : TernaryMatrix
    activation : a key of linear.ACTIVATIONS
    eps : float
        The epsilon of all norms.
    q_norm, k_norm : float32 (head_dim,) or None
        Norms of each query head and each key head.
    rotate_first : bool
        Whether RoPE comes before these two norms, and not after them.
    attention_output_norm, ffn_output_norm : float32 (hidden,) or None
        Norms of what is added to the residual stream.
    projection_norms : dict from "q", "k", "v", "o", "gate", "up", "down" to float32 (columns,)
        Norms of the input of single projections, after those above.
    biases : dict from such a name to float32 (rows,)
    residual_multiplier : float
        Factor of what is added to the residual stream.
    rotary : int
        Which of the rotary tables of decoder_layers belongs to the layer.
    window : int
        How many of the last positions a token sees, itself included. 0: all.

    Raises
    ------
    ValueError
        If shapes do not fit, or a dict has another key.
    """
    def __init__(self, input_norm, TernaryMatrix q not None, TernaryMatrix k not None, TernaryMatrix v not None,
                 attention_sub_norm, TernaryMatrix o not None, post_attention_norm, TernaryMatrix gate not None,
                 TernaryMatrix up not None, activation, ffn_sub_norm, TernaryMatrix down not None, float eps, *,
                 q_norm=None, k_norm=None, rotate_first=False, attention_output_norm=None, ffn_output_norm=None,
                 projection_norms=None, biases=None, float residual_multiplier=1, int rotary=0, int64_t window=0):
        self.input_norm, self.attention_sub_norm = input_norm, attention_sub_norm
        self.post_attention_norm, self.ffn_sub_norm = post_attention_norm, ffn_sub_norm
        self.q_norm, self.k_norm, self.rotate_first = q_norm, k_norm, rotate_first
        self.attention_output_norm, self.ffn_output_norm = attention_output_norm, ffn_output_norm
        self.projection_norms, self.biases = dict(projection_norms or {}), dict(biases or {})
        self.q, self.k, self.v, self.o, self.gate, self.up, self.down = q, k, v, o, gate, up, down
        self.activation, self.eps, self.activation_code = activation, eps, linear.ACTIVATIONS[activation]
        self.residual_multiplier, self.rotary, self.window = residual_multiplier, rotary, window
        hidden = q.columns
        if not (k.columns == v.columns == o.rows == gate.columns == up.columns == down.rows == hidden
                and k.rows == v.rows and o.columns == q.rows and gate.rows == up.rows == down.columns):
            raise ValueError(f"the shapes of {self.matrices} do not fit together as a layer")
        if rotary < 0 or window < 0:
            raise ValueError(f"rotary ({rotary}) and window ({window}) must be at least 0")
        for name in [*self.projection_norms, *self.biases]:
            if name not in PROJECTIONS:
                raise ValueError(f"{name!r} is not one of the projections {PROJECTIONS}")
        describe_norm(&self.parts.input_norm, input_norm, hidden)
        describe_norm(&self.parts.attention_sub_norm, attention_sub_norm, o.columns)
        describe_norm(&self.parts.post_attention_norm, post_attention_norm, hidden)
        describe_norm(&self.parts.ffn_sub_norm, ffn_sub_norm, down.columns)
        describe_norm(&self.parts.attention_output_norm, attention_output_norm, hidden)
        describe_norm(&self.parts.ffn_output_norm, ffn_output_norm, hidden)
        self.head_dim = 0
        for norm in (q_norm, k_norm):
            if norm is not None:
                if self.head_dim not in (0, len(norm)):
                    raise ValueError(f"q_norm has {self.head_dim} weights, k_norm has {len(norm)}")
                self.head_dim = len(norm)
        describe_norm(&self.parts.q_norm, q_norm, self.head_dim)
        describe_norm(&self.parts.k_norm, k_norm, self.head_dim)
        for i, matrix in enumerate(self.matrices):
            describe_norm(&self.parts.projection_norms[i], self.projection_norms.get(PROJECTIONS[i]), matrix.columns)
            describe_norm(&self.parts.biases[i], self.biases.get(PROJECTIONS[i]), matrix.rows)

    @property
    def matrices(self):
        """The seven projections: q, k, v, o, gate, up, down."""
        return [self.q, self.k, self.v, self.o, self.gate, self.up, self.down]
