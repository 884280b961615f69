/* A counter of tasks and a barrier, with which the threads of a parallel region share the steps.
 *
 * OpenMP has both. But its loops take a lock each time they begin, and its barriers put threads to
 * sleep between the steps of a token, which last microseconds. With thirteen barriers a layer, that
 * cost 5 % of the time on two threads.
 */
#ifndef RZ_TEAM_H
#define RZ_TEAM_H

#include <stdint.h>

#include "ryzanstein/target.h"

#if defined(_MSC_VER) && !defined(__clang__) /* not run here */
#include <intrin.h>
#include <windows.h>
#define RZ_ADD_(to, amount) _InterlockedExchangeAdd64((volatile __int64 *)(to), amount)
#define RZ_LOAD_(from) _InterlockedExchangeAdd64((volatile __int64 *)(from), 0)
#define RZ_YIELD_() SwitchToThread()
#else
#include <sched.h>
#define RZ_ADD_(to, amount) __atomic_fetch_add(to, amount, __ATOMIC_ACQ_REL)
#define RZ_LOAD_(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define RZ_YIELD_() sched_yield()
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#define RZ_PAUSE_() _mm_pause()
#else
#define RZ_PAUSE_() ((void)0)
#endif

/* A thread waits for this many rounds, about as long as a step takes, before it yields its CPU: if there
 * are more busy threads than CPUs, the thread that it waits for may not be running. */
#define RZ_SPINS 2000

typedef struct rz_barrier {
    int64_t arrived;
    int64_t unused[7]; /* so that those who wait for `round` read another cache line */
    int64_t round;
} rz_barrier;

static inline void rz_barrier_init(rz_barrier *barrier) { barrier->arrived = barrier->round = 0; }

/* Returns once all `threads` have called it. */
static inline void rz_barrier_wait(rz_barrier *barrier, int threads) {
    if (threads == 1) return;
    const int64_t round = RZ_LOAD_(&barrier->round);
    if (RZ_ADD_(&barrier->arrived, 1) == threads - 1) {
        RZ_ADD_(&barrier->arrived, -threads);
        RZ_ADD_(&barrier->round, 1);
        return;
    }
    for (int64_t spins = 0; RZ_LOAD_(&barrier->round) == round; spins++) {
        if (spins < RZ_SPINS) RZ_PAUSE_();
        else RZ_YIELD_();
    }
}

/* The number of the next task, from 0 on. No two threads get the same one. */
static inline int64_t rz_next_task(int64_t *next) { return RZ_ADD_(next, 1); }

#endif
