/* Differences between compilers, such as how to open a region that is compiled for an instruction
 * set while the rest of the file stays at the x86-64 baseline.
 *
 * Test __clang__ before _MSC_VER, because clang-cl defines both. MSVC needs no region, because it
 * compiles any intrinsic anywhere (not run here).
 */
#ifndef RZ_TARGET_H
#define RZ_TARGET_H

#include <stdint.h>

#define RZ_STRING_(text) #text
#define RZ_STRING(text) RZ_STRING_(text)
#define RZ_JOIN_(a, b) a##_##b
#define RZ_JOIN(a, b) RZ_JOIN_(a, b)

#if defined(__clang__)
#define RZ_PRAGMA_(text) _Pragma(#text)
#define RZ_TARGET_BEGIN(isa) \
    RZ_PRAGMA_(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define RZ_TARGET_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define RZ_PRAGMA_(text) _Pragma(#text)
#define RZ_TARGET_BEGIN(isa) _Pragma("GCC push_options") RZ_PRAGMA_(GCC target(isa))
#define RZ_TARGET_END _Pragma("GCC pop_options")
#else
#define RZ_TARGET_BEGIN(isa)
#define RZ_TARGET_END
#endif

/* The instructions for which each tier is compiled. cpu_features.h looks for the same features. */
#define RZ_ISA_AVX2 "avx2,f16c"
#define RZ_ISA_AVXVNNI "avx2,f16c,avxvnni"
#define RZ_ISA_AVX512VNNI "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define RZ_ISA_AMX "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"

/* Stands before a loop of constant count over an array that should stay in registers. Without it, GCC 12
 * unrolls the loop too late: it keeps the array in memory and stores it in every round. */
#if defined(__clang__)
#define RZ_UNROLL _Pragma("unroll")
#define RZ_NO_UNROLL _Pragma("nounroll")
#elif defined(__GNUC__)
#define RZ_UNROLL _Pragma("GCC unroll 16")
#define RZ_NO_UNROLL _Pragma("GCC unroll 1") /* before a long body, of which copies would only fill the cache */
#else
#define RZ_UNROLL
#define RZ_NO_UNROLL
#endif

/* Make the compiler forget what a register or memory contains. Only for loops that measure time. */
#if defined(__GNUC__) || defined(__clang__)
#define RZ_FORGET_VECTOR(a) __asm__ volatile("" : "+x"(a))
#define RZ_FORGET_MEMORY(p) __asm__ volatile("" : : "r"(p) : "memory")
#else
#define RZ_FORGET_VECTOR(a) ((void)(a))
#define RZ_FORGET_MEMORY(p) ((void)(p))
#endif

#if defined(__GNUC__) || defined(__clang__)
#define RZ_INLINE static inline __attribute__((always_inline, unused))
/* For loops that need all registers. Inlined into a large function, GCC 12 moves sums to and fro. */
#define RZ_APART static __attribute__((noinline, unused))
#define RZ_RESTRICT __restrict__
#define RZ_ALIGNED(bytes) __attribute__((aligned(bytes)))
#else
#define RZ_INLINE static __forceinline
#define RZ_APART static __declspec(noinline)
#define RZ_RESTRICT __restrict
#define RZ_ALIGNED(bytes) __declspec(align(bytes))
#endif

/* Prefetches the line `ahead` bytes further on. RYZANSTEIN_PREFETCH=0 makes the distance 0, which is the
 * line that is read anyway, so one build can measure what prefetching brings. */
extern int64_t rz_prefetch_mask; /* in dispatch.c: -1, or 0 for no distance */
#if defined(__GNUC__) || defined(__clang__)
#define RZ_PREFETCH(from, ahead) \
    __builtin_prefetch((const char *)(from) + ((int64_t)(ahead) & rz_prefetch_mask))
#define RZ_PREFETCH_ONCE(from) __builtin_prefetch(from, 0, 0) /* for data that is read once: keeps it out of the outer caches */
#else
#define RZ_PREFETCH(from, ahead) ((void)(from), (void)(ahead))
#define RZ_PREFETCH_ONCE(from) ((void)(from))
#endif

/* How far ahead kernels prefetch weights. Measured on Zen 5, with one stream of tiles on huge pages, as a
 * share of the read bandwidth: no prefetch 0.61, 1 KiB 0.74, 2 KiB 0.80, 4 KiB 0.93. */
#define RZ_PREFETCH_BYTES 4096

#endif
