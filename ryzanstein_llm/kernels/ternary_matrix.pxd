from ryzanstein_llm.kernels.cpu cimport rz_ternary

cdef enum:
    # What becomes of the activations of a product; the names are in ternary_matrix.QUANTIZATIONS.
    BY_TOKEN        # int8, one scale a token
    BY_GROUP        # int8, one scale for each group of the matrix
    NOT_QUANTIZED

cdef class TernaryMatrix:
    cdef rz_ternary matrix
    cdef readonly object codes, layout, quantization
    cdef int input_kind
