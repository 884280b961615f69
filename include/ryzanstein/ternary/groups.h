/* Where the parts of a matrix in groups are; see kernels.h. For all tiers. */
#ifndef RZ_TERNARY_GROUPS_H
#define RZ_TERNARY_GROUPS_H

#include "ryzanstein/kernels.h"

/* The stream of a row tile. */
RZ_INLINE const uint8_t *rz_group_stream_(const rz_ternary *w, int64_t tile) {
    return w->codes + tile * w->run_lines * RZ_TILE_BYTES;
}

/* The 16 scales of a group, float16, and its codes, 4 * wide bytes. */
RZ_INLINE const uint16_t *rz_group_scales_at_(const uint8_t *stream, int64_t group, int wide) {
    return (const uint16_t *)(stream + group / 2 * RZ_GROUP_PAIR_LINES(wide) * RZ_LINE_BYTES + 32 * (group % 2));
}
RZ_INLINE const uint8_t *rz_group_codes_at_(const uint8_t *stream, int64_t group, int wide) {
    return stream + group / 2 * RZ_GROUP_PAIR_LINES(wide) * RZ_LINE_BYTES + RZ_TILE_BYTES + group % 2 * 4 * wide;
}

#endif
