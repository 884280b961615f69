/* The floating-point environment in which kernels run.
 *
 * Another library in the process may have set flush-to-zero or another rounding mode, which would
 * change our bits. Each thread of a parallel region enters the default environment first, and
 * restores the caller's when it leaves.
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
/* For tests: does to the calling thread what such a library does. */
RZ_INLINE void rz_float_mode_flush_to_zero(int on) {
    _mm_setcsr(on ? (_mm_getcsr() | 0x8040u) : (_mm_getcsr() & ~0x8040u));
}
#else
RZ_INLINE unsigned int rz_float_mode_enter(void) { return 0; }
RZ_INLINE void rz_float_mode_leave(unsigned int saved) { (void)saved; }
RZ_INLINE void rz_float_mode_flush_to_zero(int on) { (void)on; }
#endif

#endif
