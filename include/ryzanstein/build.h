/* The tiers of this build. setup.py defines RZ_HAVE_<TIER> for each tier that the compiler can
 * build. FORCE_SCALAR leaves only portable C, whatever else is defined. */
#ifndef RZ_BUILD_H
#define RZ_BUILD_H

#ifdef FORCE_SCALAR
#undef RZ_HAVE_AVX2
#undef RZ_HAVE_AVXVNNI
#undef RZ_HAVE_AVX512VNNI
#undef RZ_HAVE_AMX
#endif

#ifndef RZ_HAVE_AVX512VNNI
#undef RZ_HAVE_AMX /* its base */
#endif

#endif
