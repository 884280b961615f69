/* The trits layout of kernels.h in portable C: five weights a byte.
 *
 * A byte is a fraction of 256 that lies in the v-th of 243 equal parts, where
 * v = 81*d0 + 27*d1 + 9*d2 + 3*d3 + d4 and the digits are codes. Times three, what carries over 256
 * is d0, and the byte that remains has d1 in front: no division, and the same for every digit.
 */
#ifndef RZ_TERNARY_TRITS_H
#define RZ_TERNARY_TRITS_H

#include <stdint.h>

#define RZ_TRITS 5 /* a byte */

/* The smallest fraction of part v; one part is 256/243, so there is one in each. */
static inline uint8_t rz_trits_byte(uint32_t v) { return (uint8_t)((uint16_t)(256 * v + 242) / 243); }

/* Digit k of a byte. */
static inline int rz_trit(uint32_t byte, int k) {
    for (; k; k--) byte = byte * 3 & 0xff;
    return (int)(byte * 3 >> 8);
}

#endif
