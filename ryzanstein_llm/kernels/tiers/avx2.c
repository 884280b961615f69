/* AVX2 and F16C: Intel Haswell (2013) and AMD Excavator (2015) onwards. */
#include "ryzanstein/build.h"

#ifdef RZ_HAVE_AVX2
#include <immintrin.h> /* before the region: headers stay at the baseline */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#define RZ_TIER avx2
RZ_TARGET_BEGIN(RZ_ISA_AVX2)
#include "ryzanstein/simd/avx2.h"
#include "ryzanstein/ternary/avx2.h"
#include "ryzanstein/screen/avx2.h"
#include "ryzanstein/attention/avx2.h"
#include "ryzanstein/limits/ymm.h"
#include "ryzanstein/table.h"
RZ_TARGET_END
#else
typedef int rz_empty_translation_unit_;
#endif
