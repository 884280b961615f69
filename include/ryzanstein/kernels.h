/* The contracts of all kernels, and the table each tier fills.
 *
 * Every kernel gives the same bits in every tier. Integer kernels because their
 * sums are exact; float kernels because each states the order of its operations
 * below and no tier may fuse, reassociate or approximate (no FMA, no rcp/rsqrt).
 * Kernels never fail, allocate or start threads; the .pyx files check arguments.
 *
 * "Sixteen lanes by index": lane l adds elements l, l+16, l+32, ... in that
 * order, missing elements count as +0; lanes are then added by the fixed tree
 * (l, l+8), (l, l+4), (l, l+2), (l, l+1).
 *
 * No pointer needs alignment unless stated. Sizes are in elements.
 */
#ifndef RZ_KERNELS_H
#define RZ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* ---- ternary weights ------------------------------------------------------
 * Codes 0, 1, 2 stand for -1, 0, +1. A matrix has one of nine layouts; each is made of 64-byte
 * units, and each kernel says which it takes. Seven have one scale a matrix: three of them have four
 * codes to a byte, four are denser. Two have a scale for each group of columns of a row.
 *
 * Tiles, for products that need every weight: a tile is 16 rows x 16 columns; byte 4*row + b
 * holds columns b, 4+b, 8+b, 12+b of that row in its bit pairs 0, 2, 4, 6. So one 32-bit lane is
 * one row, and masking bit pair p leaves four neighbouring columns as bytes, what a 4-way dot
 * product wants.
 *
 * Rows, where some rows may not be needed: each row is a run of lines of 256 columns; byte i of a
 * line holds columns i, 64+i, 128+i, 192+i. Masked, a line is to be multiplied by 64 neighbouring
 * activations.
 *
 * Columns, where some activations may be zero: each column is a run of lines of 256 rows; bit
 * pair p of byte 16*l + 4*q + k holds row 64*p + 16*q + 4*l + k. Interleaving the bytes of four
 * columns within 128-bit lanes then yields lanes of neighbouring rows.
 *
 * Trits, as tiles with five codes to a byte (1.6 bits a weight): a tile is 16 rows x 20 columns;
 * byte 4*row + b holds columns b, 4+b, 8+b, 12+b, 16+b as ternary/trits.h says.
 *
 * Trit rows and trit columns, as rows and columns with five codes to a byte: lines are of 320 codes,
 * and digit p is what bit pair p is there.
 *
 * Tables, for kernels that look sums up instead of multiplying (1.67 bits a weight): a tile is 64
 * rows x 24 columns in 320 bytes. Each row has eight triples of neighbouring columns as
 * ternary/triples.h says: the number of triple k of rows r and 32+r is in the low and the high half
 * of byte 32*k + r, its sign in bit 7-k of byte 256 + row.
 *
 * Groups, where every 64 or 128 columns of a row have a scale of their own (fp16, not negative): 16 rows
 * are one stream of memory. Groups of columns come in pairs; a pair is one line of 32 scales, of the 16
 * rows of its first group and then of its second, and then the tiles of the first group and of the second,
 * each as in the layout of tiles. If the number of groups is odd, the last pair has no tiles of a second
 * group, and 0 for its scales. A weight is scale * (code - 1). Rows past the end have scale 0.
 *
 * Rows and columns past the end hold code 1.
 *
 * Overflow: |sum code*x| <= 2*128*columns, times 64 while the fourth bit pair is unshifted. In a
 * tile or row that pair has a quarter of the columns: 4096*columns, which int32 holds up to
 * columns = 524,287; RZ_MAX_COLUMNS keeps a factor of two in hand. In the columns layout it has
 * all: 16384*columns, up to 131,071. The dense layouts say in their kernels what they widen when.
 * In trit rows and trit columns sums are 256 times too large, and |x| <= 127 counts (quantize gives no
 * -128): 65024*columns. A lane has at most an eighth of the columns of a trit row: 8128*columns, up to 264,208.
 * Trit columns subtract sum x first: 256 * |sum (code-1)*x| <= 32512*columns, up to 66,052.
 */
#define RZ_TILE_ROWS 16
#define RZ_TILE_COLUMNS 16
#define RZ_TILE_BYTES 64
#define RZ_LINE_CODES 256
#define RZ_LINE_BYTES 64
#define RZ_LINE_TRITS 320
#define RZ_LINE_SUMS 384 /* int32 that ternary_columns needs for a line, of either kind */
/* Lines from a column to the next, for one of so many: were that a multiple of 4, the same line of all
 * columns, which products of several tokens read in turn, would fall into a few sets of a cache. */
#define RZ_COLUMN_STRIDE(lines) ((lines) + ((lines) % 4 == 0))
#define RZ_TRITS_COLUMNS 20
#define RZ_TABLES_COLUMNS 24
/* Tiles of `wide` columns side by side; all of the last 16 columns are in one. */
#define RZ_DENSE_TILES(columns, wide) ((((columns) + 15) / 16 * 16 + (wide) - 1) / (wide))
#define RZ_MAX_COLUMNS 262144
#define RZ_MAX_COLUMN_RUNS 65536 /* of a matrix in a columns layout */
#define RZ_TERNARY_LAYOUT_VERSION 3
/* Columns of a group of a layout, 0 if it has none; lines of a pair of groups; lines of a row tile. */
#define RZ_GROUP_COLUMNS(layout) ((layout) == RZ_LAYOUT_GROUPS64 ? 64 : ((layout) == RZ_LAYOUT_GROUPS128 ? 128 : 0))
#define RZ_GROUPS(columns, wide) (((columns) + (wide) - 1) / (wide))
#define RZ_GROUP_PAIR_LINES(wide) (1 + 2 * ((wide) / 16))
#define RZ_GROUP_LINES(groups, wide) (((groups) + 1) / 2 + (groups) * ((wide) / 16))

typedef enum rz_layout {
    RZ_LAYOUT_TILES = 0,
    RZ_LAYOUT_ROWS = 1,
    RZ_LAYOUT_COLUMNS = 2,
    RZ_LAYOUT_TRITS = 3,
    RZ_LAYOUT_TABLES = 4,
    RZ_LAYOUT_TRIT_ROWS = 5,
    RZ_LAYOUT_TRIT_COLUMNS = 6,
    RZ_LAYOUT_GROUPS64 = 7,
    RZ_LAYOUT_GROUPS128 = 8
} rz_layout;

typedef struct rz_ternary {
    /* 64-byte aligned: (row_tiles, column_tiles, 64) tiles, (16 * row_tiles, run_lines, 64) rows,
     * (16 * column_tiles, run_lines, 64) columns, (row_tiles, run_lines, 64) trits or groups, or
     * (row_tiles / 4, run_lines, 320) tables */
    const uint8_t *codes;
    /* tiles are of 16; row_tiles is a multiple of 4 but for tiles, trits and groups */
    int64_t rows, columns, row_tiles, column_tiles;
    /* lines from a row, column or row tile of groups to the next, tiles side by side of trits or tables;
     * 0 for tiles */
    int64_t run_lines;
    float scale; /* value of code 2; not of groups */
    rz_layout layout;
} rz_ternary;

/* Activations of n tokens as int8, with one scale per token, or for matrices in groups one per group. */
typedef struct rz_activations {
    const int8_t *codes;   /* (n, stride), zeros past the columns */
    const float *scales;   /* (n, groups) value of code 1 */
    const int32_t *sums;   /* (n, groups) sum of the codes */
    const uint8_t *tables; /* (n, RZ_TABLES_BYTES(columns)) from ternary_tables, 64-byte aligned; or
                              NULL, and matrices in the tables layout are opened instead */
    int64_t stride;        /* RZ_ACTIVATIONS_STRIDE(columns), a multiple of 64 */
    int64_t n;
    int64_t groups; /* 1, or RZ_GROUPS(columns, RZ_GROUP_COLUMNS(layout)) */
} rz_activations;

/* With zeros to where the last tile or line of any layout ends. An odd number of lines of 64 bytes, so that the
 * same columns of neighbouring tokens fall into different sets of a cache. */
#define RZ_ACTIVATIONS_STRIDE(columns) ((((columns) + RZ_LINE_TRITS + 63) / 64 | 1) * 64)
/* Tables of a token: for each 24 columns eight of 32 bytes. */
#define RZ_TABLES_BYTES(columns) (256 * RZ_DENSE_TILES(columns, RZ_TABLES_COLUMNS))

/* Row tiles a task should take at a time (one register panel). */
#define RZ_PANEL_TILES 4
/* Columns of the dense layouts that are opened at a time: whole tiles of both, within a panel. */
#define RZ_PANEL_DENSE_COLUMNS 480
/* Scratch that most tiers need for a product of n tokens; see product_scratch. */
#define RZ_PANEL_COLUMNS 512
#define RZ_PANEL_SCALES (RZ_PANEL_TILES * RZ_TILE_ROWS * RZ_PANEL_COLUMNS / 64) /* of groups, float32 */
#define RZ_TERNARY_SCRATCH_BYTES(n) \
    ((size_t)(RZ_PANEL_TILES * RZ_TILE_ROWS) * (RZ_PANEL_COLUMNS + 4 * (size_t)(n)) + 4 * RZ_PANEL_SCALES)

/* Up to so many tokens a ternary product goes token by token, the weights from L1 after the first:
 * opening them to bytes would cost more than it saves. */
#define RZ_FEW_TOKENS 3
/* The same for products that look up sums of three weights, which cost less. */
#define RZ_TABLES_TOKENS 6
/* Entries of a list of columns come in groups of so many. */
#define RZ_LIST_STEP 8

typedef enum rz_output_mode {
    RZ_STORE_SET = 0,
    RZ_STORE_ADD = 1
} rz_output_mode;

/* ---- head screen ----------------------------------------------------------
 * A head row w of floats is also kept as codes of six bits, so that most rows can be ruled out at
 * three eighths of the bytes of bf16. For each group g of 64 columns the row has a scale:
 *   w = d * s[g] * k + e       s[g] in 0..127, k in -32..31, stored as k + 32
 * and the hidden state likewise has codes of eight bits:
 *   x = t[g] * a + r           a in -127..127
 * With w^ for the first part of w, the inequality of Cauchy and Schwarz bounds what the codes leave out:
 *   |w.x - d * sum over g of s[g] t[g] sum k*a| <= |e||x| + |w^||r|
 * |e| and |w^|, Euclidean norms rounded up, are stored a row.
 *
 * A block is 64 rows, and one stream of memory: first its scales s, (groups, 64) bytes, then for each
 * group of columns four tiles of 16 rows, each of four times three lines of 64 bytes that hold 16 columns.
 * The low six bits of byte 4*row + b of line p are column 4*p + b, the upper two bits of lines 0, 1, 2
 * together column 12 + b, lowest first. Columns past the end hold code 32 (zero); rows past the end have
 * infinite |e|.
 *
 * Overflow: |sum of (k+32)*a over a group| <= 64*63*127 = 512,064, also exact as a float; in 16 bits
 * four products are at most 4*63*127 = 32,004. Beyond a group sums are floats.
 */
#define RZ_SCREEN_ROWS 64        /* of a block */
#define RZ_SCREEN_GROUP 64       /* columns */
#define RZ_SCREEN_TILE_BYTES 768 /* codes of a group of 16 rows */
#define RZ_SCREEN_BLOCK_BYTES(groups) ((RZ_SCREEN_ROWS + 4 * RZ_SCREEN_TILE_BYTES) * (groups))
#define RZ_MAX_SCREEN_COLUMNS 65536 /* pack_screen.h: what the roundings of float sums allow for */

typedef struct rz_screen {
    const uint8_t *blocks;     /* (blocks, RZ_SCREEN_BLOCK_BYTES(groups)), 64-byte aligned */
    const float *scales;       /* (64 * blocks,): d of each row, 0 past the end */
    const float *errors;       /* (64 * blocks,): |e| */
    const float *norms;        /* (64 * blocks,): |w^| */
    int64_t groups, row_tiles; /* 4 * blocks */
} rz_screen;

typedef struct rz_screen_inputs {
    int8_t *codes;    /* (n, 64 * groups): a, zeros past the columns */
    float *scales;    /* (n, groups): t */
    int32_t *offsets; /* (n, groups): -32 * sum of a, which takes the 32 off the codes k + 32 */
    float *size;      /* (n,), |x| and */
    float *rest;      /* (n,), |r|, with room for all roundings: |logit - y| <= |e| size + |w^| rest */
} rz_screen_inputs;

typedef struct rz_screen_logits {
    float *logits;     /* (row_tiles, n, 16): y of all rows, in the order in which they are made */
    float *most_lower; /* (n, row_tiles): of 16 rows the largest lower and upper bound */
    float *most_upper;
} rz_screen_logits;

/* ---- attention ------------------------------------------------------------
 * The cache is a table of blocks of 256 positions. In a block, for one KV head:
 * K is (head_dim, 256), so that lanes run over positions; V is (256, head_dim).
 * A partial result of one query is head_dim weighted values, then the maximum
 * score, then the sum of weights.
 *
 * int8 caches are panels of 16 lanes with four neighbouring bytes each, as 4-way dot products want them, and have
 * a scale per position. K is (16 panels of positions, ceil(head_dim / 4), 16, 4), unsigned: code + 128. V is
 * (ceil(head_dim / 16) panels, 64, 16, 4), signed; the four bytes are neighbouring positions. What is missing of
 * head_dim is code 0.
 *
 * Overflow: codes are in -127..127. A score sums up to 1024 products with codes of a query, at most
 * 1024 * 127 * 16256 < 2^31; with K as stored it may wrap around, until 128 * sum of the query's codes is
 * subtracted. A value sums 256 products with weights, at most 256 * 127 * 32767 < 2^31.
 */
#define RZ_KV_BLOCK 256
#define RZ_MAX_QUERIES 16
#define RZ_QUERIES_TOGETHER 4 /* of an int8 cache */
#define RZ_MAX_HEAD_DIM 1024
enum rz_kv_kind {
    RZ_KV_F32 = 0,
    RZ_KV_BF16 = 1,
    RZ_KV_I8 = 2,
    RZ_KV_KINDS = 3
};

typedef struct rz_kv_block {
    void *k;        /* (head_dim, 256), or panels of int8 */
    void *v;        /* (256, head_dim), or panels of int8 */
    float *k_scale; /* (256,), int8 only */
    float *v_scale;
} rz_kv_block;

enum rz_float_kind {
    RZ_FLOAT_F32 = 0,
    RZ_FLOAT_BF16 = 1,
    RZ_FLOAT_F16 = 2,
    RZ_FLOAT_KINDS = 3
};
enum rz_activation {
    RZ_ACTIVATION_RELU2 = 0, /* max(x, 0)^2 */
    RZ_ACTIVATION_SILU = 1,  /* x / (1 + exp(-x)) */
    RZ_ACTIVATION_GELU_ERF = 2,
    RZ_ACTIVATION_GELU_TANH = 3,
    RZ_ACTIVATIONS = 4
};

typedef struct rz_kernels {
    const char *tier;

    /* The fastest layout for products that need every weight, by measurement (PERFORMANCE.md). */
    rz_layout whole_layout;

    /* out = x * (1 / sqrt(mean(x^2) + eps)) * weight. Squares are added in
     * sixteen lanes by index; weight may be NULL (all ones). May run in place. */
    void (*rms_norm)(const float *x, const float *weight, float eps, int64_t n, float *out);

    /* out = (x - mean) * (1 / sqrt(variance + eps)) * weight + bias, two passes,
     * both sums in sixteen lanes by index; weight and bias may be NULL. In place too. */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps,
                       int64_t n, float *out);

    /* m = max(max|x|, 1e-5); codes = round_half_even(x * (127 / m)) in -127..127, zeros
     * from n to padded; *scale = m / 127, NaN if a value is not finite, so that it does not get
     * lost in integers; *sum = sum of codes. */
    void (*quantize)(const float *x, int64_t n, int64_t padded, int8_t *codes, float *scale,
                     int32_t *sum);

    /* Sums of one token for matrices in the tables layout: for triple k of columns, 16 low and 16
     * high parts of the sum for each |v| (0 past 13), sum = low + 31 * high. NULL in tiers that
     * look nothing up. */
    void (*ternary_tables)(const int8_t *codes, int64_t columns, uint8_t *tables);

    /* Bytes of scratch, 64-byte aligned, that ternary_matmul and group_matmul need for n tokens and so many
     * columns; a multiple of 64. */
    int64_t (*product_scratch)(int64_t columns, int64_t n);

    /* For row tiles [tile_begin, tile_end), tile_begin a multiple of 4, and every token t:
     *   y = float(sum code*x - sum x) * (activations scale * weight scale)
     * out[t * out_stride + row] = y, or += y. Only rows < w->rows are written. */
    void (*ternary_matmul)(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                           const rz_activations *x, float *out, int64_t out_stride,
                           rz_output_mode store, void *scratch);

    /* For a matrix in groups, tile_begin any: for each row and token, from y = +0, groups g ascending,
     *   y = y + float(sum of (code - 1)*x over the group) * (activations scale[g] * weight scale[g])
     * out[t * out_stride + row] = y, or += y. The integer sum is at most 128 * 127. */
    void (*group_matmul)(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                         const rz_activations *x, float *out, int64_t out_stride,
                         rz_output_mode store, void *scratch);

    /* The same matrix and activations that are float32 (n, x_stride), for columns without their codes:
     * s = s + (code - 1) * x from +0, columns ascending within a group, y = y + s * weight scale[g]. */
    void (*group_matmul_floats)(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const float *x,
                                int64_t x_stride, int64_t n, float *out, int64_t out_stride,
                                rz_output_mode store, void *scratch);

    /* Up to so many tokens a matrix in rows or trit rows is multiplied by ternary_rows, with the rows that
     * some token needs, and not by ternary_matmul. At least RZ_FEW_TOKENS, as column_tokens. */
    int64_t row_tokens;

    /* The same y for the `count` listed rows of a matrix in rows or trit rows, the others untouched,
     * and x->n <= row_tokens: out[t * out_stride + row] = y. */
    void (*ternary_rows)(const rz_ternary *w, const int32_t *rows, int64_t count,
                         const rz_activations *x, float *out, int64_t out_stride);

    /* Up to so many tokens a matrix in columns or trit columns is multiplied by ternary_columns, with the
     * columns that some token needs, and not by ternary_matmul. */
    int64_t column_tokens;

    /* Part of y, for a matrix in columns or trit columns and n tokens: adds the
     * products of the listed columns to sums, up to (n, run_lines, RZ_LINE_SUMS) int32 in a form of
     * the layout, the tier and n, 0 at first.
     * values[t * values_stride + i] is the code of token t for columns[i]; lists have a multiple of
     * RZ_LIST_STEP entries, filled up with any column and value 0. 64-byte aligned sums. */
    void (*ternary_columns)(const rz_ternary *w, const int32_t *columns, int64_t count,
                            const int8_t *values, int64_t values_stride, int64_t n, int32_t *sums);
    /* y from `parts` arrays of such sums for token t: out[row] = y, or += y, for rows
     * [row_begin, row_end), row_begin a multiple of 64. */
    void (*ternary_columns_finish)(const rz_ternary *w, const int32_t *const *sums, int64_t parts,
                                   const rz_activations *x, int64_t t, int64_t row_begin,
                                   int64_t row_end, float *out, rz_output_mode store);

    /* out[t * out_stride + row] = x[t] . w[row] for rows [row_begin, row_end) of a
     * row-major float matrix; products are added in sixteen lanes by index. */
    void (*dense_matmul[RZ_FLOAT_KINDS])(const void *w, int64_t columns, int64_t row_begin,
                                         int64_t row_end, const float *x, int64_t n, float *out,
                                         int64_t out_stride);

    /* The same of one x for the `count` listed rows: out[i] = x . w[rows[i]]. */
    void (*dense_rows[RZ_FLOAT_KINDS])(const void *w, int64_t columns, const int32_t *rows, int64_t count,
                                       const float *x, float *out);

    /* For blocks [begin, end) and n hidden states: an approximation of each row's logit,
     * y = d * (sum over g, ascending from +0, of float(sum k*a) * (s[g] * t[g])), and the bounds
     * y - m and y + m with m = |e| * size + |w^| * rest. */
    void (*screen)(const rz_screen *head, int64_t begin, int64_t end, const rz_screen_inputs *x, int64_t n,
                   const rz_screen_logits *out);

    /* out = activation(x), elementwise; may run in place. */
    void (*activate[RZ_ACTIVATIONS])(const float *x, int64_t n, float *out);
    /* out = activation(gate) * up, elementwise; may run in place. For relu2, +0 wherever
     * gate <= 0, even if up is infinite or NaN. */
    void (*activate_gated[RZ_ACTIVATIONS])(const float *gate, const float *up, int64_t n,
                                           float *out);

    /* out = exp(x - max(x)); returns their sum in sixteen lanes by index. In place too. */
    float (*softmax_weights)(const float *x, int64_t n, float *out);
    /* out = exp(x), saturating: 0 below -87.33654, 2.4e38 above 88.37626. In place too. */
    void (*exp)(const float *x, int64_t n, float *out);

    /* Rotates n_heads heads of head_dim in place: with h = head_dim / 2, pairs (i, i + h):
     * x[i]*cos[i] - x[i+h]*sin[i] and x[i+h]*cos[i] + x[i]*sin[i] (rotate_half, as in NEOX). */
    void (*rope)(float *x, int64_t n_heads, int64_t head_dim, const float *cosine,
                 const float *sine);

    /* Stores k and v of one position at `slot` of a block, in the kind's form: float32, bf16
     * (round to nearest even), or int8 with scale max|x|/127. */
    void (*kv_append[RZ_KV_KINDS])(const float *k, const float *v, int64_t head_dim, int64_t slot,
                                   const rz_kv_block *block);

    /* One block against n_queries <= 16 queries, query i seeing positions < valid[i] (>= 1) and
     * >= hidden[i] (< valid[i]); hidden may be NULL (all 0). What is hidden has weight +0.
     * score = (sum over d ascending of q[d]*k[d]) * scale; weights exp(score - max) summed in
     * sixteen lanes by index; values added in ascending position. partial[i] has head_dim + 2 floats.
     * int8: with m = max|q[d]|, Q = round_half_even(q * (16256 / m)), all 0 where m <= 2^-100, and
     * score = float(sum of Q*k) * k scale * ((m / 16256) * scale); weights and their sum as above; then
     * w = weight * v scale, and W from w in the same way with 32767, so value = float(sum of W*v) * (m / 32767).
     * Values m / 16256 and m / 32767 are NaN if a q or w is not finite. */
    void (*attend_block[RZ_KV_KINDS])(const float *q, int64_t q_stride, int64_t n_queries,
                                      const int32_t *valid, const int32_t *hidden,
                                      int64_t head_dim, float scale, const rz_kv_block *block,
                                      float *partial);
    /* running = running + partial of the next block, both rescaled to the larger maximum. */
    void (*attend_combine)(float *running, const float *partial, int64_t head_dim);
    /* out = values * (1 / sum). */
    void (*attend_finish)(const float *running, int64_t head_dim, float *out);

    /* The machine's limits, for benchmarks: reads `bytes` (a multiple of 256, 64-byte aligned)
     * and returns their exclusive or in some order; multiplies and adds peak_products int8
     * pairs a round, on registers alone. */
    uint64_t (*read_stream)(const uint8_t *from, int64_t bytes);
    int64_t (*multiply_peak)(int64_t rounds);
    int64_t peak_products;
} rz_kernels;

/* dispatch.c */
uint32_t rz_features(void);
int rz_tier_count(void);
const char *rz_tier_name(int index); /* best first, compiled or not; emulations last */
int rz_tier_compiled(int index);
int rz_tier_supported(int index);             /* by CPU and operating system */
int rz_tier_is_emulation(int index);          /* for tests; never chosen unless named */
int rz_tier_needs_permission(int index);      /* of the operating system, for this process */
int rz_tier_request(int index);               /* 0, or the errno of a refusal */
unsigned long rz_tier_signal_stack(void);     /* bytes that an alternate signal stack needs then; 0: unknown */
const rz_kernels *rz_tier_kernels(int index); /* NULL if not compiled */

#endif
