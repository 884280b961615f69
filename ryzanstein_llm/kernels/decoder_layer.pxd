from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.inputs cimport Norm
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix

cdef enum:
    # the order of DecoderLayer.matrices
    Q
    K
    V
    O
    GATE
    UP
    DOWN
    PROJECTION_COUNT

cdef struct Parts:
    # The optional parts of a layer: their addresses, taken once and not again for each token.
    Norm input_norm
    Norm attention_sub_norm
    Norm post_attention_norm
    Norm ffn_sub_norm
    Norm q_norm
    Norm k_norm
    Norm attention_output_norm
    Norm ffn_output_norm
    Norm projection_norms[PROJECTION_COUNT]
    Norm biases[PROJECTION_COUNT]

cdef class DecoderLayer:
    cdef readonly object input_norm, attention_sub_norm, post_attention_norm, ffn_sub_norm, activation
    cdef readonly object q_norm, k_norm, attention_output_norm, ffn_output_norm, projection_norms, biases
    cdef readonly TernaryMatrix q, k, v, o, gate, up, down
    cdef readonly float eps, residual_multiplier
    cdef readonly bint rotate_first
    cdef readonly int rotary
    cdef readonly int64_t window
    cdef int activation_code
    cdef int64_t head_dim  # of q_norm and k_norm; 0: there is none
    cdef Parts parts
