# The C interface of the kernels. It is declared once, here, and other modules cimport it.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "ryzanstein/kernels.h" nogil:
    enum: RZ_TILE_ROWS, RZ_TILE_COLUMNS, RZ_TILE_BYTES, RZ_MAX_COLUMNS, RZ_PANEL_TILES
    enum: RZ_LINE_CODES, RZ_LINE_TRITS, RZ_LINE_SUMS, RZ_LINE_BYTES
    enum: RZ_MAX_COLUMN_RUNS, RZ_FEW_TOKENS, RZ_TABLES_TOKENS, RZ_LIST_STEP
    enum: RZ_KV_BLOCK, RZ_MAX_QUERIES, RZ_MAX_HEAD_DIM, RZ_TERNARY_LAYOUT_VERSION
    enum: RZ_TRITS_COLUMNS, RZ_TABLES_COLUMNS
    int64_t RZ_COLUMN_STRIDE(int64_t lines)
    int64_t RZ_ACTIVATIONS_STRIDE(int64_t columns)
    int64_t RZ_TABLES_BYTES(int64_t columns)
    int64_t RZ_DENSE_TILES(int64_t columns, int64_t wide)
    int64_t RZ_GROUP_COLUMNS(int layout)
    int64_t RZ_GROUPS(int64_t columns, int64_t wide)
    int64_t RZ_GROUP_LINES(int64_t groups, int64_t wide)

    ctypedef enum rz_layout:
        RZ_LAYOUT_TILES
        RZ_LAYOUT_ROWS
        RZ_LAYOUT_COLUMNS
        RZ_LAYOUT_TRITS
        RZ_LAYOUT_TABLES
        RZ_LAYOUT_TRIT_ROWS
        RZ_LAYOUT_TRIT_COLUMNS
        RZ_LAYOUT_GROUPS64
        RZ_LAYOUT_GROUPS128

    ctypedef struct rz_ternary:
        const uint8_t *codes
        int64_t rows
        int64_t columns
        int64_t row_tiles
        int64_t column_tiles
        int64_t run_lines
        float scale
        rz_layout layout

    ctypedef struct rz_activations:
        const int8_t *codes
        const float *scales
        const int32_t *sums
        const uint8_t *tables
        int64_t stride
        int64_t n
        int64_t groups

    ctypedef enum rz_output_mode:
        RZ_STORE_SET
        RZ_STORE_ADD

    enum: RZ_SCREEN_GROUP, RZ_SCREEN_ROWS, RZ_MAX_SCREEN_COLUMNS
    int64_t RZ_SCREEN_BLOCK_BYTES(int64_t groups)

    ctypedef struct rz_screen:
        const uint8_t *blocks
        const float *scales
        const float *errors
        const float *norms
        int64_t groups
        int64_t row_tiles

    ctypedef struct rz_screen_inputs:
        int8_t *codes
        float *scales
        int32_t *offsets
        float *size
        float *rest

    ctypedef struct rz_screen_logits:
        float *logits
        float *most_lower
        float *most_upper

    ctypedef struct rz_kv_block:
        void *k
        void *v
        float *k_scale
        float *v_scale

    ctypedef struct rz_kernels:
        const char *tier
        rz_layout whole_layout
        void (*rms_norm)(const float *, const float *, float, int64_t, float *) noexcept nogil
        void (*layer_norm)(const float *, const float *, const float *, float, int64_t, float *) noexcept nogil
        void (*quantize)(const float *, int64_t, int64_t, int8_t *, float *, int32_t *) noexcept nogil
        void (*ternary_tables)(const int8_t *, int64_t, uint8_t *) noexcept nogil
        int64_t (*product_scratch)(int64_t, int64_t) noexcept nogil
        void (*ternary_matmul)(const rz_ternary *, int64_t, int64_t, const rz_activations *, float *,
                               int64_t, rz_output_mode, void *) noexcept nogil
        void (*group_matmul)(const rz_ternary *, int64_t, int64_t, const rz_activations *, float *, int64_t,
                             rz_output_mode, void *) noexcept nogil
        void (*group_matmul_floats)(const rz_ternary *, int64_t, int64_t, const float *, int64_t, int64_t, float *,
                                    int64_t, rz_output_mode, void *) noexcept nogil
        int64_t row_tokens
        void (*ternary_rows)(const rz_ternary *, const int32_t *, int64_t, const rz_activations *, float *,
                             int64_t) noexcept nogil
        int64_t column_tokens
        void (*ternary_columns)(const rz_ternary *, const int32_t *, int64_t, const int8_t *, int64_t, int64_t,
                                int32_t *) noexcept nogil
        void (*ternary_columns_finish)(const rz_ternary *, const int32_t *const *, int64_t, const rz_activations *,
                                       int64_t, int64_t, int64_t, float *, rz_output_mode) noexcept nogil
        void (*dense_matmul[3])(const void *, int64_t, int64_t, int64_t, const float *, int64_t, float *,
                                int64_t) noexcept nogil
        void (*dense_rows[3])(const void *, int64_t, const int32_t *, int64_t, const float *, float *) noexcept nogil
        void (*screen)(const rz_screen *, int64_t, int64_t, const rz_screen_inputs *, int64_t,
                       const rz_screen_logits *) noexcept nogil
        void (*activate[4])(const float *, int64_t, float *) noexcept nogil
        void (*activate_gated[4])(const float *, const float *, int64_t, float *) noexcept nogil
        float (*softmax_weights)(const float *, int64_t, float *) noexcept nogil
        void (*exp)(const float *, int64_t, float *) noexcept nogil
        void (*rope)(float *, int64_t, int64_t, const float *, const float *) noexcept nogil
        void (*kv_append[3])(const float *, const float *, int64_t, int64_t, const rz_kv_block *) noexcept nogil
        void (*attend_block[3])(const float *, int64_t, int64_t, const int32_t *, const int32_t *, int64_t, float,
                                const rz_kv_block *, float *) noexcept nogil
        void (*attend_combine)(float *, const float *, int64_t) noexcept nogil
        void (*attend_finish)(const float *, int64_t, float *) noexcept nogil
        uint64_t (*read_stream)(const uint8_t *, int64_t) noexcept nogil
        int64_t (*multiply_peak)(int64_t) noexcept nogil
        int64_t peak_products

cdef extern from "ryzanstein/float_mode.h" nogil:
    unsigned int rz_float_mode_enter()
    void rz_float_mode_leave(unsigned int saved)

cdef const rz_kernels *kernels() noexcept nogil

cdef class Table:
    cdef const rz_kernels *kernels
