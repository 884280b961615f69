/* The floating-point environment every kernel runs in.
 *
 * Another library in the process may have set flush-to-zero or another rounding
 * mode; that would change our bits. Each thread of a parallel region enters the
 * default environment first and puts the caller's back when it leaves.
 */
#ifndef RZ_FLOAT_MODE_H
#define RZ_FLOAT_MODE_H

#include "ryzanstein/target.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#define RZ_MXCSR_DEFAULT 0x1f80u /* all exceptions masked, round to nearest even, no FTZ, no DAZ */
RZ_INLINE unsigned int rz_float_mode_enter(void) {
    const unsigned int saved = _mm_getcsr();
    _mm_setcsr(RZ_MXCSR_DEFAULT);
    return saved;
}
RZ_INLINE void rz_float_mode_leave(unsigned int saved) { _mm_setcsr(saved); }
/* For tests: what an ill-behaved library does to the calling thread. */
RZ_INLINE void rz_float_mode_flush_to_zero(int on) {
    _mm_setcsr(on ? (_mm_getcsr() | 0x8040u) : (_mm_getcsr() & ~0x8040u));
}
#else
RZ_INLINE unsigned int rz_float_mode_enter(void) { return 0; }
RZ_INLINE void rz_float_mode_leave(unsigned int saved) { (void)saved; }
RZ_INLINE void rz_float_mode_flush_to_zero(int on) { (void)on; }
#endif

#endif
