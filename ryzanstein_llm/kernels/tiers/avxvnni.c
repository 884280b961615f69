/* AVX-VNNI on ymm: Intel Alder Lake (2021), AMD Zen 5 (2024) onwards. */
#include "ryzanstein/build.h"

#ifdef RZ_HAVE_AVXVNNI
#include <immintrin.h> /* before the region: headers stay at the baseline */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#define RZ_TIER avxvnni
RZ_TARGET_BEGIN(RZ_ISA_AVXVNNI)
#include "ryzanstein/simd/avx2.h"
#include "ryzanstein/ternary/avxvnni.h"
#include "ryzanstein/screen/avxvnni.h"
#include "ryzanstein/attention/avxvnni.h"
#include "ryzanstein/limits/ymm.h"
#include "ryzanstein/table.h"
RZ_TARGET_END
#else
typedef int rz_empty_translation_unit_;
#endif
