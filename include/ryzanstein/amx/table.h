/* The last include of the amx tier and of its emulations, outside of the region: the table of another tier, the base,
 * with products by tile registers in place of its own. What the base does with few tokens, or with floats, stays.
 *
 * Before it come RZ_TIER, rz_base_(), which gives the base, and in the region the files that the base includes,
 * vectors for the products, ternary/amx.h, screen/amx.h and limits/amx.h.
 */

/* Fills a table, and gives it back. */
const rz_kernels *RZ_NAME(rz_derive)(rz_kernels *table, const char *tier);
const rz_kernels *RZ_NAME(rz_derive)(rz_kernels *table, const char *tier) {
    *table = *rz_base_();
    table->tier = tier;
    table->product_scratch = rz_stacks_scratch;
    table->ternary_matmul = rz_tile_matmul;
    table->group_matmul = rz_group_tile_matmul;
    if (table->column_tokens >= RZ_TILES_FROM_(RZ_LAYOUT_COLUMNS)) table->column_tokens = RZ_TILES_FROM_(RZ_LAYOUT_COLUMNS) - 1;
    table->screen = rz_tile_screen;
    table->multiply_peak = rz_tile_multiply_peak;
    table->peak_products = RZ_TILE_PEAK_PRODUCTS_;
    return table;
}

#ifdef RZ_EMULATED_TILES
/* How many times the calling thread has multiplied tiles. */
int64_t RZ_NAME(rz_emulated_products)(void);
int64_t RZ_NAME(rz_emulated_products)(void) { return rz_emulated_.products; }
#endif
