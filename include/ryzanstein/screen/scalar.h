/* Head screen in portable C. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#include "ryzanstein/screen/group.h"

#define RZ_SCREEN_FEW_ 1
#define RZ_SCREEN_TOKENS_ 1
#define RZ_SCREEN_TILES_ 1

/* Unpacks one group of 16 rows to bytes: 16 lines of four columns, `stride` bytes apart. */
RZ_INLINE void rz_screen_unpack_(const uint8_t *from, uint8_t *to, int64_t stride) {
    for (int quarter = 0; quarter < 4; quarter++, from += 192, to += 4 * stride)
        for (int i = 0; i < 64; i++) {
            const uint8_t a = from[i], b = from[64 + i], c = from[128 + i];
            to[i] = a & 63;
            to[stride + i] = b & 63;
            to[2 * stride + i] = c & 63;
            to[3 * stride + i] = (uint8_t)(a >> 6 | b >> 6 << 2 | c >> 6 << 4);
        }
}

RZ_INLINE void rz_screen_many_(const uint8_t *panel, const float *scales, const rz_screen_group_ *x, int tokens,
                               float *totals) {
    int32_t sums[16];
    (void)tokens; /* always 1 */
    for (int row = 0; row < 16; row++) {
        sums[row] = *x->offsets;
        for (int i = 0; i < RZ_SCREEN_GROUP; i++) sums[row] += panel[i / 4 * 64 + 4 * row + i % 4] * x->codes[i];
    }
    rz_screen_add_group_(totals, rz_load_i32(sums), rz_load(scales), x, 0);
}

RZ_INLINE void rz_screen_few_(const uint8_t *from, rz_f32x16 scales, const rz_screen_group_ *x, int tokens,
                              float *totals) {
    uint8_t panel[16 * RZ_SCREEN_GROUP];
    float stored[16];
    rz_screen_unpack_(from, panel, 64);
    rz_store(stored, scales);
    rz_screen_many_(panel, stored, x, tokens, totals);
}

#endif
