/* The lookup-table kernel, for every tier with AVX2 (as in T-MAC, arXiv 2407.00088, but exact).
 *
 *   vpshufb ymm   32 lookups in a table of 16 bytes
 *   vpsignb ymm   changes the sign of those whose triple is negative
 *
 * A triple of weights is one lookup for 32 rows instead of three products. Sums of three
 * activations reach 3*128 = 384, so a table has two planes of bytes, sum = low + 31*high with
 * |low| <= 15 and |high| <= 12: 31 is odd, so that both can change their sign.
 *
 * Head-room: a tile has eight lookups a row, |sum of lows| <= 120 and |sum of highs| <= 96. Counted
 * from 128 these are bytes in 8..248, which int16 takes up for 256 tiles (6,144 columns): 63,488.
 */
#include "ryzanstein/ternary/triples.h"

#define RZ_TABLES_BEFORE_WIDENING_ 256
/* Measured on Zen 5, one thread: 4 KiB ahead 22.9 GB/s, 8 KiB 25.7, none 14.7. */
#define RZ_TABLES_PREFETCH_BYTES_ 8192

RZ_INLINE __m256i rz_bytes_(const uint8_t *from) { return _mm256_load_si256((const __m256i *)from); }

/* Entry i is w0*x0 + w1*x1 + w2*x2 for i = w0 + 3*w1 + 9*w2. */
static void rz_ternary_tables(const int8_t *codes, int64_t columns, uint8_t *tables) {
    const __m256i w0 = _mm256_setr_epi16(0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, 0, 0);
    const __m256i w1 = _mm256_setr_epi16(0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 0, 0);
    const __m256i w2 = _mm256_setr_epi16(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0);
    const uint8_t *end = tables + RZ_TABLES_BYTES(columns);
    for (; tables < end; tables += 32, codes += RZ_TRIPLE) {
        const __m256i sums = _mm256_add_epi16(
            _mm256_add_epi16(_mm256_sign_epi16(_mm256_set1_epi16(codes[0]), w0),
                             _mm256_sign_epi16(_mm256_set1_epi16(codes[1]), w1)),
            _mm256_sign_epi16(_mm256_set1_epi16(codes[2]), w2));
        const __m256i high = _mm256_mulhrs_epi16(sums, _mm256_set1_epi16(1057)); /* 2^15 / 31, rounded */
        const __m256i low = _mm256_sub_epi16(_mm256_add_epi16(sums, high), _mm256_slli_epi16(high, 5));
        _mm256_store_si256((__m256i *)tables,
                           _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8));
    }
}

/* The two planes of 32 rows: bytes of one tile, and 16-bit sums of many, of all bytes as pairs
 * and of the upper ones. */
typedef struct {
    __m256i low, high;
} rz_planes_;
typedef struct {
    __m256i low, low_upper, high, high_upper;
} rz_plane_sums_;

RZ_INLINE rz_planes_ rz_look_up_(rz_planes_ sums, const uint8_t *table, __m256i index, __m256i sign) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table + 1));
    sums.low = _mm256_add_epi8(sums.low, _mm256_sign_epi8(_mm256_shuffle_epi8(low, index), sign));
    sums.high = _mm256_add_epi8(sums.high, _mm256_sign_epi8(_mm256_shuffle_epi8(high, index), sign));
    return sums;
}

RZ_INLINE void rz_add_planes_(rz_plane_sums_ *sums, rz_planes_ tile) {
    sums->low = _mm256_add_epi16(sums->low, tile.low);
    sums->low_upper = _mm256_add_epi16(sums->low_upper, _mm256_srli_epi16(tile.low, 8));
    sums->high = _mm256_add_epi16(sums->high, tile.high);
    sums->high_upper = _mm256_add_epi16(sums->high_upper, _mm256_srli_epi16(tile.high, 8));
}

/* 32 sums of bytes, in the order of the bytes. */
RZ_INLINE void rz_store_plane_(__m256i pairs, __m256i upper, uint16_t *to) {
    const __m256i lower = _mm256_sub_epi16(pairs, _mm256_slli_epi16(upper, 8));
    const __m256i a = _mm256_unpacklo_epi16(lower, upper), b = _mm256_unpackhi_epi16(lower, upper);
    _mm256_storeu_si256((__m256i *)to, _mm256_permute2x128_si256(a, b, 0x20));
    _mm256_storeu_si256((__m256i *)to + 1, _mm256_permute2x128_si256(a, b, 0x31));
}

/* What vpsignb takes for a triple: its sign bit in front, and not zero. For all but the last
 * triple the lowest bit, which `signs` has set, sees to that. */
RZ_INLINE __m256i rz_sign_(__m256i signs, __m256i marked, int triple) {
    return triple == 7 ? _mm256_or_si256(_mm256_slli_epi16(signs, 7), _mm256_set1_epi8(1))
                       : _mm256_slli_epi16(marked, triple);
}

/* 64 rows of token t from row tile `tile` on. */
static void rz_tables_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, int64_t t,
                              float *out, rz_output_mode store) {
    const uint8_t *weights = w->codes + tile / RZ_PANEL_TILES * w->run_lines * RZ_TABLES_TILE_BYTES;
    const uint8_t *table = x->tables + t * w->run_lines * 256;
    const __m256i nibble = _mm256_set1_epi8(0x0f), start = _mm256_set1_epi8((char)0x80);
    RZ_ALIGNED(32)
    int32_t rows[RZ_TABLES_ROWS] = {0};
    for (int64_t done = 0; done < w->run_lines;) {
        const int64_t left = w->run_lines - done;
        const int64_t count = left < RZ_TABLES_BEFORE_WIDENING_ ? left : RZ_TABLES_BEFORE_WIDENING_;
        rz_plane_sums_ sums[2];
        memset(sums, 0, sizeof sums);
        for (int64_t c = 0; c < count; c++, weights += RZ_TABLES_TILE_BYTES, table += 256) {
    RZ_UNROLL
            for (int line = 0; line < 5; line++) RZ_PREFETCH(weights + 64 * line, RZ_TABLES_PREFETCH_BYTES_);
            rz_planes_ tiles[2] = {{start, start}, {start, start}}; /* by half of the rows */
            __m256i signs[2], marked[2];
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                signs[half] = rz_bytes_(weights + RZ_TABLES_SIGNS + 32 * half);
                marked[half] = _mm256_or_si256(signs[half], _mm256_set1_epi8(1));
            }
            RZ_UNROLL
            for (int triple = 0; triple < RZ_TABLES_TRIPLES; triple++) {
                const __m256i bytes = rz_bytes_(weights + 32 * triple);
                RZ_UNROLL
                for (int half = 0; half < 2; half++) {
                    const __m256i index = half ? _mm256_srli_epi16(bytes, 4) : bytes;
                    tiles[half] = rz_look_up_(tiles[half], table + 32 * triple, _mm256_and_si256(index, nibble),
                                              rz_sign_(signs[half], marked[half], triple));
                }
            }
            RZ_UNROLL
            for (int half = 0; half < 2; half++) rz_add_planes_(&sums[half], tiles[half]);
        }
        uint16_t low[RZ_TABLES_ROWS], high[RZ_TABLES_ROWS];
        for (int half = 0; half < 2; half++) {
            rz_store_plane_(sums[half].low, sums[half].low_upper, low + 32 * half);
            rz_store_plane_(sums[half].high, sums[half].high_upper, high + 32 * half);
        }
        const int32_t counted_from = 128 * (1 + 31) * (int32_t)count;
        for (int row = 0; row < RZ_TABLES_ROWS; row++) rows[row] += low[row] + 31 * high[row] - counted_from;
        done += count;
    }
    for (int64_t i = 0; i < RZ_PANEL_TILES; i++)
        rz_store_rows_(rows + 16 * i, rz_scale_(w, x, t), out + 16 * (tile + i), w->rows - 16 * (tile + i), store);
}

/* Bytes of codes c0 | c1 << 2 | c2 << 4 of 32 triples. */
RZ_INLINE __m256i rz_triple_codes_(__m256i index, __m256i sign) {
    /* w0 + 4*w1 + 16*w2 for the indices; the codes are 1 + 4 + 16 more */
    const __m256i fields = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 3, 4, 5, 11, 12, 13, 15, 16, 17, 19, 20, 21, 0, 0));
    return _mm256_add_epi8(_mm256_sign_epi8(_mm256_shuffle_epi8(fields, index), sign), _mm256_set1_epi8(21));
}

/* Four columns of 32 rows as bytes of 32-bit lanes: four columns of two row tiles of a panel. */
RZ_INLINE void rz_store_step_(const __m256i *columns, uint8_t *to, int64_t tile_stride) {
    const __m256i ab_low = _mm256_unpacklo_epi8(columns[0], columns[1]), ab_high = _mm256_unpackhi_epi8(columns[0], columns[1]);
    const __m256i cd_low = _mm256_unpacklo_epi8(columns[2], columns[3]), cd_high = _mm256_unpackhi_epi8(columns[2], columns[3]);
    const __m256i a = _mm256_unpacklo_epi16(ab_low, cd_low), b = _mm256_unpackhi_epi16(ab_low, cd_low);
    const __m256i c = _mm256_unpacklo_epi16(ab_high, cd_high), d = _mm256_unpackhi_epi16(ab_high, cd_high);
    _mm256_store_si256((__m256i *)to, _mm256_permute2x128_si256(a, b, 0x20));
    _mm256_store_si256((__m256i *)to + 1, _mm256_permute2x128_si256(c, d, 0x20));
    to += tile_stride;
    _mm256_store_si256((__m256i *)to, _mm256_permute2x128_si256(a, b, 0x31));
    _mm256_store_si256((__m256i *)to + 1, _mm256_permute2x128_si256(c, d, 0x31));
}

/* Opens `count` tiles of the 64 rows from row tile `tile` on: step s of row tile i, four columns as
 * 64 bytes, at panel + i * tile_stride + s * step_stride. */
static void rz_open_tables_(const rz_ternary *w, int64_t tile, int64_t c, int64_t count, uint8_t *panel,
                            int64_t tile_stride, int64_t step_stride) {
    const __m256i nibble = _mm256_set1_epi8(0x0f), field = _mm256_set1_epi8(0x03), one = _mm256_set1_epi8(1);
    const uint8_t *weights = w->codes + (tile / RZ_PANEL_TILES * w->run_lines + c) * RZ_TABLES_TILE_BYTES;
    for (; count; count--, weights += RZ_TABLES_TILE_BYTES, panel += 6 * step_stride) {
        for (int line = 0; line < 5; line++) RZ_PREFETCH(weights + 64 * line, RZ_PREFETCH_BYTES);
        for (int half = 0; half < 2; half++) {
            const __m256i signs = rz_bytes_(weights + RZ_TABLES_SIGNS + 32 * half);
            const __m256i marked = _mm256_or_si256(signs, one);
            RZ_UNROLL
            for (int part = 0; part < 2; part++) { /* twelve columns */
                __m256i columns[12];
                RZ_UNROLL
                for (int k = 0; k < 4; k++) {
                    const __m256i bytes = rz_bytes_(weights + 32 * (4 * part + k));
                    const __m256i index = _mm256_and_si256(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(4 * half)), nibble);
                    const __m256i codes = rz_triple_codes_(index, rz_sign_(signs, marked, 4 * part + k));
                    columns[3 * k] = _mm256_and_si256(codes, field);
                    columns[3 * k + 1] = _mm256_and_si256(_mm256_srli_epi16(codes, 2), field);
                    columns[3 * k + 2] = _mm256_srli_epi16(codes, 4); /* codes < 64: nothing comes in */
                    columns[3 * k + 2] = _mm256_and_si256(columns[3 * k + 2], field);
                }
                RZ_UNROLL
                for (int step = 0; step < 3; step++)
                    rz_store_step_(columns + 4 * step, panel + 2 * half * tile_stride + (3 * part + step) * step_stride,
                                   tile_stride);
            }
        }
    }
}
