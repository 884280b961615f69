/* AMX on top of avx512vnni: Intel Sapphire Rapids (2023) onwards, on Linux. */
#include "ryzanstein/build.h"

#ifdef RZ_HAVE_AMX
#include <immintrin.h> /* before the region: headers stay at the baseline */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* of avx512vnni, whose table has them */
extern const rz_kernels rz_kernels_avx512vnni;

#define RZ_TIER amx
#define RZ_NAME(base) RZ_JOIN(base, RZ_TIER)
RZ_INLINE const rz_kernels *rz_base_(void) { return &rz_kernels_avx512vnni; }

RZ_TARGET_BEGIN(RZ_ISA_AMX)
#include "ryzanstein/simd/avx512.h"
#include "ryzanstein/ternary/avx512vnni.h"
#include "ryzanstein/screen/avx512vnni.h"
#include "ryzanstein/ops/screen.h"
#include "ryzanstein/amx/vectors_zmm.h"
#include "ryzanstein/ternary/amx.h"
#include "ryzanstein/screen/amx.h"
#include "ryzanstein/limits/amx.h"
RZ_TARGET_END

#include "ryzanstein/amx/table.h"
#else
typedef int rz_empty_translation_unit_;
#endif
