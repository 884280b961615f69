/* Portable C, compiled at the baseline: every build has it. */
#define RZ_TIER scalar
#include "ryzanstein/kernels.h"
#include "ryzanstein/simd/portable.h"
#include "ryzanstein/ternary/scalar.h"
#include "ryzanstein/screen/scalar.h"
#include "ryzanstein/attention/scalar.h"
#include "ryzanstein/limits/scalar.h"
#include "ryzanstein/table.h"
