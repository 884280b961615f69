/* Which tiers exist, what each of them needs, and which is preferred.
 *
 * No tier follows from another: Zen 4 has avx512vnni without avxvnni, Alder Lake has avxvnni
 * without avx512vnni. So each is checked separately. The list is in order of preference.
 */
#include "ryzanstein/build.h"
#include "ryzanstein/cpu_features.h"
#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

extern const rz_kernels rz_kernels_scalar;
#ifdef RZ_HAVE_AVX2
extern const rz_kernels rz_kernels_avx2;
#define RZ_AVX2_TABLE &rz_kernels_avx2
#else
#define RZ_AVX2_TABLE NULL
#endif
#ifdef RZ_HAVE_AVXVNNI
extern const rz_kernels rz_kernels_avxvnni;
#define RZ_AVXVNNI_TABLE &rz_kernels_avxvnni
#else
#define RZ_AVXVNNI_TABLE NULL
#endif
#ifdef RZ_HAVE_AVX512VNNI
extern const rz_kernels rz_kernels_avx512vnni;
#define RZ_AVX512VNNI_TABLE &rz_kernels_avx512vnni
#else
#define RZ_AVX512VNNI_TABLE NULL
#endif

static const struct {
    const char *name;
    uint32_t needs;
    const rz_kernels *kernels;
} tiers[] = {
    {"avx512vnni",
     RZ_CPU_AVX2 | RZ_CPU_F16C | RZ_CPU_AVX512F | RZ_CPU_AVX512BW | RZ_CPU_AVX512DQ |
         RZ_CPU_AVX512VL | RZ_CPU_AVX512VNNI,
     RZ_AVX512VNNI_TABLE},
    {"avxvnni", RZ_CPU_AVX2 | RZ_CPU_F16C | RZ_CPU_AVXVNNI, RZ_AVXVNNI_TABLE},
    {"avx2", RZ_CPU_AVX2 | RZ_CPU_F16C, RZ_AVX2_TABLE},
    {"scalar", 0, &rz_kernels_scalar},
};

int64_t rz_prefetch_mask = -1;

uint32_t rz_features(void) { return rz_cpu_features(); }
int rz_tier_count(void) { return (int)(sizeof tiers / sizeof tiers[0]); }
const char *rz_tier_name(int index) { return tiers[index].name; }
int rz_tier_compiled(int index) { return tiers[index].kernels != NULL; }
int rz_tier_supported(int index) {
    return (rz_cpu_features() & tiers[index].needs) == tiers[index].needs;
}
const rz_kernels *rz_tier_kernels(int index) { return tiers[index].kernels; }
