/* Which tiers exist, what each of them needs, and which is preferred.
 *
 * No tier follows from another: Zen 4 has avx512vnni without avxvnni, Alder Lake has avxvnni
 * without avx512vnni. So each is checked separately. The list is in order of preference. Behind it stand
 * emulations of a tier, for tests on CPUs that lack it.
 */
#include "ryzanstein/amx/permission.h"
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

/* The amx tier changes the table of another one, so its table is filled when it is asked for. */
#ifdef RZ_HAVE_AMX
static rz_kernels amx_table;
const rz_kernels *rz_derive_amx(rz_kernels *table, const char *tier);
static const rz_kernels *amx_kernels(void) { return rz_derive_amx(&amx_table, "amx"); }
#define RZ_AMX_TABLE &amx_table
#else
#define amx_kernels NULL
#define RZ_AMX_TABLE NULL
#endif

#define RZ_NEEDS_AVX512VNNI_ (RZ_CPU_AVX2 | RZ_CPU_F16C | RZ_CPU_AVX512F | RZ_CPU_AVX512BW | RZ_CPU_AVX512DQ | RZ_CPU_AVX512VL | RZ_CPU_AVX512VNNI)

/* Emulated: the machine code of the tier around tile registers that are emulated. Portable: all in portable C. */
static rz_kernels portable_table;
const rz_kernels *rz_derive_amx_portable(rz_kernels *table, const char *tier);
static const rz_kernels *portable_kernels(void) { return rz_derive_amx_portable(&portable_table, "amx-portable"); }
#ifdef RZ_HAVE_AVX512VNNI
static rz_kernels emulated_table;
const rz_kernels *rz_derive_amx_avx512(rz_kernels *table, const char *tier);
static const rz_kernels *emulated_kernels(void) { return rz_derive_amx_avx512(&emulated_table, "amx-emulated"); }
#define RZ_EMULATED_TABLE &emulated_table
#else
#define emulated_kernels NULL
#define RZ_EMULATED_TABLE NULL
#endif

static int request_nothing(void) { return 0; }

static const struct {
    const char *name;
    uint32_t needs;
    const rz_kernels *kernels;
    const rz_kernels *(*fill)(void); /* NULL if the table is constant */
    int (*request)(void);            /* NULL if the operating system need not be asked */
    int emulation;
} tiers[] = {
    {"amx", RZ_NEEDS_AVX512VNNI_ | RZ_CPU_AMX_TILE | RZ_CPU_AMX_INT8, RZ_AMX_TABLE, amx_kernels, rz_request_tile_data, 0},
    {"avx512vnni", RZ_NEEDS_AVX512VNNI_, RZ_AVX512VNNI_TABLE, NULL, NULL, 0},
    {"avxvnni", RZ_CPU_AVX2 | RZ_CPU_F16C | RZ_CPU_AVXVNNI, RZ_AVXVNNI_TABLE, NULL, NULL, 0},
    {"avx2", RZ_CPU_AVX2 | RZ_CPU_F16C, RZ_AVX2_TABLE, NULL, NULL, 0},
    {"scalar", 0, &rz_kernels_scalar, NULL, NULL, 0},
    {"amx-emulated", RZ_NEEDS_AVX512VNNI_, RZ_EMULATED_TABLE, emulated_kernels, request_nothing, 1},
    {"amx-portable", 0, &portable_table, portable_kernels, request_nothing, 1},
};

int64_t rz_prefetch_mask = -1;

uint32_t rz_features(void) { return rz_cpu_features(); }
int rz_tier_count(void) { return (int)(sizeof tiers / sizeof tiers[0]); }
const char *rz_tier_name(int index) { return tiers[index].name; }
int rz_tier_compiled(int index) { return tiers[index].kernels != NULL; }
int rz_tier_supported(int index) {
    return (rz_cpu_features() & tiers[index].needs) == tiers[index].needs;
}
int rz_tier_is_emulation(int index) { return tiers[index].emulation; }
int rz_tier_needs_permission(int index) { return tiers[index].request != NULL; }
int rz_tier_request(int index) { return tiers[index].request ? tiers[index].request() : 0; }
unsigned long rz_tier_signal_stack(void) { return rz_least_signal_stack(); }
const rz_kernels *rz_tier_kernels(int index) { return tiers[index].fill ? tiers[index].fill() : tiers[index].kernels; }
