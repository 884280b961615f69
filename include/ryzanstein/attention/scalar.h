/* Integer sums for attention over an int8 cache, in portable C. The files of this folder have the same function.
 *
 * The cache is panels of 16 lanes, and a line of a panel is 64 bytes: four of each lane. For query q < queries,
 * panel p < count and each lane,
 *   sums[q * sums_stride + 16 * p + lane] = sum over i < 4 * depth of a[q * a_stride + i] * b
 * where b is byte i % 4 of the lane in line i / 4 of panel p. `of_keys`, a constant, says which bytes they are:
 * those of keys are unsigned, with a in -16256..16256; those of values are signed, with a in 0..32767. Sums may wrap
 * around on the way; kernels.h says why what is wanted of them fits.
 */
#ifndef RZ_ATTENTION_H
#define RZ_ATTENTION_H

RZ_INLINE void rz_attention_sums_(const int16_t *a, int64_t a_stride, int64_t queries, const uint8_t *panels,
                                  int64_t panel_bytes, int64_t depth, int64_t count, int32_t *sums, int64_t sums_stride,
                                  int of_keys) {
    for (int64_t p = 0; p < count; p++)
        for (int64_t q = 0; q < queries; q++) {
            uint32_t totals[16] = {0};
            for (int64_t i = 0; i < depth; i++)
                for (int lane = 0; lane < 16; lane++)
                    for (int k = 0; k < 4; k++) {
                        const uint8_t byte = panels[p * panel_bytes + 64 * i + 4 * lane + k];
                        const int32_t b = of_keys ? byte : (int8_t)byte;
                        totals[lane] += (uint32_t)(a[q * a_stride + 4 * i + k] * b);
                    }
            memcpy(sums + q * sums_stride + 16 * p, totals, sizeof totals);
        }
}

#endif
