/* How fast portable C reads memory and multiplies int8 on this machine. */
#ifndef RZ_LIMITS_H
#define RZ_LIMITS_H

#define RZ_PEAK_PRODUCTS_ 256

static uint64_t rz_read_stream(const uint8_t *from, int64_t bytes) {
    uint64_t sums[8] = {0};
    for (int64_t i = 0; i < bytes; i += 64) {
        uint64_t words[8];
        memcpy(words, from + i, 64);
        for (int lane = 0; lane < 8; lane++) sums[lane] ^= words[lane];
    }
    return sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
}

/* As the scalar tier multiplies: int16 products of a 16 x 16 tile. */
static int64_t rz_multiply_peak(int64_t rounds) {
    int16_t codes[16][16];
    int32_t sums[16] = {0};
    for (int i = 0; i < 256; i++) codes[i / 16][i % 16] = (int16_t)(i % 3);
    for (int64_t round = 0; round < rounds; round++) {
        int16_t partial[16] = {0};
        RZ_FORGET_MEMORY(codes);
        for (int column = 0; column < 16; column++) {
            const int16_t value = (int16_t)(round & 63);
            for (int row = 0; row < 16; row++) partial[row] = (int16_t)(partial[row] + codes[column][row] * value);
        }
        for (int row = 0; row < 16; row++) sums[row] += partial[row];
    }
    return sums[0] + sums[15];
}

#endif
