/* The last include of a tier's C file: every operation of ops/, and its table.
 *
 * Before it come RZ_TIER (the tier's name as a bare word), kernels.h, a simd/, a ternary/, a
 * screen/, an attention/ and a limits/ file, all inside one target region.
 */
#define RZ_NAME(base) RZ_JOIN(base, RZ_TIER)

#include "ryzanstein/ops/tail.h"

#include "ryzanstein/ops/exp.h"

#include "ryzanstein/ops/activation.h"
#include "ryzanstein/ops/attention.h"
#include "ryzanstein/ops/attention_int8.h"
#include "ryzanstein/ops/dense.h"
#include "ryzanstein/ops/groups.h"
#include "ryzanstein/ops/norm.h"
#include "ryzanstein/ops/rope.h"
#include "ryzanstein/ops/screen.h"

static int64_t rz_panel_scratch(int64_t columns, int64_t n) {
    (void)columns;
    return (int64_t)RZ_TERNARY_SCRATCH_BYTES(n);
}

extern const rz_kernels RZ_NAME(rz_kernels);
const rz_kernels RZ_NAME(rz_kernels) = {
    .tier = RZ_STRING(RZ_TIER),
    .whole_layout = RZ_WHOLE_LAYOUT_,
    .rms_norm = RZ_NAME(rz_rms_norm),
    .layer_norm = RZ_NAME(rz_layer_norm),
    .quantize = RZ_NAME(rz_quantize),
    .ternary_tables = rz_ternary_tables,
    .product_scratch = rz_panel_scratch,
    .ternary_matmul = rz_ternary_matmul,
    .group_matmul = rz_group_matmul,
    .group_matmul_floats = RZ_NAME(rz_group_matmul_floats),
    .row_tokens = RZ_ROW_TOKENS_,
    .ternary_rows = rz_ternary_rows,
    .column_tokens = RZ_COLUMN_TOKENS_,
    .ternary_columns = rz_ternary_columns,
    .ternary_columns_finish = rz_ternary_columns_finish,
    .dense_matmul = {RZ_NAME(rz_dense_matmul_f32), RZ_NAME(rz_dense_matmul_bf16),
                     RZ_NAME(rz_dense_matmul_f16)},
    .dense_rows = {RZ_NAME(rz_dense_rows_f32), RZ_NAME(rz_dense_rows_bf16), RZ_NAME(rz_dense_rows_f16)},
    .screen = RZ_NAME(rz_screen),
    .activate = {RZ_NAME(rz_relu2), RZ_NAME(rz_silu), RZ_NAME(rz_gelu_erf), RZ_NAME(rz_gelu_tanh)},
    .activate_gated = {RZ_NAME(rz_relu2_gated), RZ_NAME(rz_silu_gated), RZ_NAME(rz_gelu_erf_gated),
                       RZ_NAME(rz_gelu_tanh_gated)},
    .softmax_weights = RZ_NAME(rz_softmax_weights),
    .exp = RZ_NAME(rz_exp),
    .rope = RZ_NAME(rz_rope),
    .kv_append = {RZ_NAME(rz_kv_append_f32), RZ_NAME(rz_kv_append_bf16), RZ_NAME(rz_kv_append_i8)},
    .attend_block = {RZ_NAME(rz_attend_block_f32), RZ_NAME(rz_attend_block_bf16),
                     RZ_NAME(rz_attend_block_i8)},
    .attend_combine = RZ_NAME(rz_attend_combine),
    .attend_finish = RZ_NAME(rz_attend_finish),
    .read_stream = rz_read_stream,
    .multiply_peak = rz_multiply_peak,
    .peak_products = RZ_PEAK_PRODUCTS_,
};
