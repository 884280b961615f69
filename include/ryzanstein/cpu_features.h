/* What this CPU and operating system offer. dispatch.c decides what is used.
 *
 * A feature counts only if CPUID reports it and the operating system saves the registers that it uses
 * (XGETBV): bits 1 and 2 of XCR0 for ymm, also bits 5 to 7 for zmm, and bits 17 and 18 for tiles. The bit
 * numbers are from Intel SDM vol. 2A, CPUID leaves 1, 7 and 1DH. Linux also wants to be asked for tiles, see
 * amx/permission.h.
 */
#ifndef RZ_CPU_FEATURES_H
#define RZ_CPU_FEATURES_H

#include <stdint.h>

enum rz_cpu_feature {
    RZ_CPU_AVX2 = 1u << 0,
    RZ_CPU_F16C = 1u << 1,
    RZ_CPU_FMA = 1u << 2,
    RZ_CPU_AVXVNNI = 1u << 3,
    RZ_CPU_AVX512F = 1u << 4,
    RZ_CPU_AVX512BW = 1u << 5,
    RZ_CPU_AVX512DQ = 1u << 6,
    RZ_CPU_AVX512VL = 1u << 7,
    RZ_CPU_AVX512VNNI = 1u << 8,
    RZ_CPU_AVX512VBMI = 1u << 9,
    RZ_CPU_AVX512BF16 = 1u << 10,
    RZ_CPU_AMX_TILE = 1u << 11,
    RZ_CPU_AMX_INT8 = 1u << 12
};

#if defined(__x86_64__) || defined(_M_X64)

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static void rz_cpuid_(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]) {
    __cpuidex((int *)registers, (int)leaf, (int)subleaf);
}
static uint64_t rz_xcr0_(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void rz_cpuid_(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]) {
    __cpuid_count(leaf, subleaf, registers[0], registers[1], registers[2], registers[3]);
}
static uint64_t rz_xcr0_(void) {
    uint32_t low, high; /* as bytes, because the xgetbv intrinsic needs -mxsave */
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}
#endif

/* Whether palette 1 has 8 tiles of 16 rows x 64 bytes, as amx/tiles.h takes for granted. */
static int rz_tiles_as_known_(uint32_t last_leaf) {
    uint32_t r[4];
    if (last_leaf < 0x1d) return 0;
    rz_cpuid_(0x1d, 0, r);
    if (r[0] < 1) return 0;
    rz_cpuid_(0x1d, 1, r);
    return r[0] == (1024u << 16 | 8192u) && r[1] == (8u << 16 | 64u) && (r[2] & 0xffff) == 16;
}

static uint32_t rz_cpu_features(void) {
    uint32_t r[4], features = 0;
    rz_cpuid_(0, 0, r);
    const uint32_t last_leaf = r[0];
    if (last_leaf < 7) return 0;

    rz_cpuid_(1, 0, r);
    const uint32_t leaf1_ecx = r[2];
    if (!(leaf1_ecx & (1u << 27))) return 0; /* OSXSAVE: xgetbv faults without it */
    const uint64_t xcr0 = rz_xcr0_();
    if ((xcr0 & 0x6) != 0x6 || !(leaf1_ecx & (1u << 28))) return 0;
    if (leaf1_ecx & (1u << 29)) features |= RZ_CPU_F16C;
    if (leaf1_ecx & (1u << 12)) features |= RZ_CPU_FMA;

    rz_cpuid_(7, 0, r);
    const uint32_t last_subleaf = r[0], ebx = r[1], ecx = r[2], edx = r[3];
    if (ebx & (1u << 5)) features |= RZ_CPU_AVX2;
    uint32_t leaf7_1_eax = 0;
    if (last_subleaf >= 1) {
        rz_cpuid_(7, 1, r);
        leaf7_1_eax = r[0];
        if (leaf7_1_eax & (1u << 4)) features |= RZ_CPU_AVXVNNI;
    }
    if ((xcr0 & 0xe6) == 0xe6) {
        if (ebx & (1u << 16)) features |= RZ_CPU_AVX512F;
        if (ebx & (1u << 17)) features |= RZ_CPU_AVX512DQ;
        if (ebx & (1u << 30)) features |= RZ_CPU_AVX512BW;
        if (ebx & (1u << 31)) features |= RZ_CPU_AVX512VL;
        if (ecx & (1u << 11)) features |= RZ_CPU_AVX512VNNI;
        if (ecx & (1u << 1)) features |= RZ_CPU_AVX512VBMI;
        if (leaf7_1_eax & (1u << 5)) features |= RZ_CPU_AVX512BF16;
    }
    if ((xcr0 & 0x60000) == 0x60000 && rz_tiles_as_known_(last_leaf)) {
        if (edx & (1u << 24)) features |= RZ_CPU_AMX_TILE;
        if (edx & (1u << 25)) features |= RZ_CPU_AMX_INT8;
    }
    return features;
}

#else
static uint32_t rz_cpu_features(void) { return 0; }
#endif

#endif
