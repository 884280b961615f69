/* Few tokens and the dense layouts: one token after the other, straight from the packed codes. Needs
 * rz_trits_matvec_ and rz_tables_matvec_. */
#include "ryzanstein/ternary/epilogue.h"

RZ_INLINE int rz_dense_directly_(const rz_ternary *w, const rz_activations *x) {
    return (w->layout == RZ_LAYOUT_TRITS && x->n <= RZ_FEW_TOKENS) || (w->layout == RZ_LAYOUT_TABLES && x->tables);
}

static void rz_dense_products_(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                               const rz_activations *x, float *out, int64_t out_stride, rz_output_mode store) {
    const int64_t together = w->layout == RZ_LAYOUT_TABLES ? RZ_PANEL_TILES : 1;
    for (int64_t tile = tile_begin; tile < tile_end; tile += together)
        for (int64_t t = 0; t < x->n; t++) {
            const rz_activations one = rz_one_token_(x, t);
            float *to = out + t * out_stride;
            if (w->layout == RZ_LAYOUT_TABLES) rz_tables_matvec_(w, tile, x, t, to, store);
            else rz_trits_matvec_(w, tile, &one, to, store);
        }
}
