/* AVX-512 with VNNI: Intel Cascade Lake (2019), AMD Zen 4 (2022) onwards. */
#include "ryzanstein/build.h"

#ifdef RZ_HAVE_AVX512VNNI
#include <immintrin.h> /* before the region: headers stay at the baseline */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#define RZ_TIER avx512vnni
RZ_TARGET_BEGIN(RZ_ISA_AVX512VNNI)
#include "ryzanstein/simd/avx512.h"
#include "ryzanstein/ternary/avx512vnni.h"
#include "ryzanstein/screen/avx512vnni.h"
#include "ryzanstein/attention/avx512vnni.h"
#include "ryzanstein/limits/zmm.h"
#include "ryzanstein/table.h"
RZ_TARGET_END
#else
typedef int rz_empty_translation_unit_;
#endif
