/* Shared by the head screens of all tiers: one group of columns of some tokens, and how it is added. */
#ifndef RZ_SCREEN_GROUP_H
#define RZ_SCREEN_GROUP_H

/* Two groups of a block. Measured on Zen 5 for sixteen tokens: one group ahead 20.4 ms, two 19.0, three 21.9. */
#define RZ_SCREEN_PREFETCH_BYTES_ (8 * RZ_SCREEN_TILE_BYTES)

/* Token t has its codes at codes + t * groups * RZ_SCREEN_GROUP, and its offset and scale at [t * groups]. */
typedef struct {
    const int8_t *codes;
    const int32_t *offsets;
    const float *scales;
    int64_t groups;
} rz_screen_group_;

RZ_INLINE rz_screen_group_ rz_screen_group_at_(const rz_screen_inputs *x, int64_t groups, int64_t group, int64_t t) {
    const int64_t at = t * groups + group;
    const rz_screen_group_ result = {x->codes + RZ_SCREEN_GROUP * at, x->offsets + at, x->scales + at, groups};
    return result;
}

/* Adds one group to the totals of sixteen rows for token t: integer sums as floats, times both scales. */
RZ_INLINE void rz_screen_add_group_(float *total, rz_f32x16 sums, rz_f32x16 scales, const rz_screen_group_ *x, int t) {
    const rz_f32x16 both = rz_mul(scales, rz_set1(x->scales[t * x->groups]));
    rz_store(total, rz_add(rz_load(total), rz_mul(sums, both)));
}

#endif
