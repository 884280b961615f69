/* The amx tier with emulated tile registers, for tests on CPUs with AVX-512: all else is the machine code of the tier. */
#include "ryzanstein/build.h"

#ifdef RZ_HAVE_AVX512VNNI
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
extern const rz_kernels rz_kernels_avx512vnni;

#define RZ_TIER amx_avx512
#define RZ_EMULATED_TILES
#define RZ_NAME(base) RZ_JOIN(base, RZ_TIER)
RZ_INLINE const rz_kernels *rz_base_(void) { return &rz_kernels_avx512vnni; }

RZ_TARGET_BEGIN(RZ_ISA_AVX512VNNI)
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
