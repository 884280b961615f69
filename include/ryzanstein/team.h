/* Shares of tasks and a barrier, with which the threads of a parallel region share the steps.
 *
 * Each thread has a share of neighbouring tasks and takes them in order. So it reads weights as one
 * stream of memory, and what it prefetches past the end of a task belongs to its own next task. A thread
 * that has finished its share takes tasks from the end of another one's.
 *
 * OpenMP has loops and barriers too. But its loops take a lock each time they begin, and its barriers put
 * threads to sleep between the steps of a token, which last microseconds. With thirteen barriers a layer,
 * that cost 5 % of the time on two threads.
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
#define RZ_STORE_(to, value) ((void)_InterlockedExchange64((volatile __int64 *)(to), value))
#define RZ_REPLACE_(at, old, value) (_InterlockedCompareExchange64((volatile __int64 *)(at), value, old) == (old))
#define RZ_YIELD_() SwitchToThread()
#else
#include <sched.h>
#define RZ_ADD_(to, amount) __atomic_fetch_add(to, amount, __ATOMIC_ACQ_REL)
#define RZ_LOAD_(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define RZ_STORE_(to, value) __atomic_store_n(to, value, __ATOMIC_RELEASE)
#define RZ_REPLACE_(at, old, value) rz_replace_(at, old, value)
static inline int rz_replace_(int64_t *at, int64_t old, int64_t value) {
    return __atomic_compare_exchange_n(at, &old, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
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
#ifndef RZ_SPINS /* the tests, with many more threads than CPUs, set it */
#define RZ_SPINS 2000
#endif

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

/* The tasks [begin, end) that are left of a share, in one word, so that they change together: begin in
 * the low half. */
#define RZ_MAX_TASKS INT32_MAX

static inline void rz_share_set(int64_t *share, int64_t begin, int64_t end) { RZ_STORE_(share, end << 32 | begin); }

/* The first task of a share, for the thread whose share it is; -1 if none is left. */
static inline int64_t rz_share_first(int64_t *share) {
    for (;;) {
        const int64_t old = RZ_LOAD_(share), begin = old & 0xffffffff, end = old >> 32;
        if (begin >= end) return -1;
        if (RZ_REPLACE_(share, old, old + 1)) return begin;
    }
}

/* The last one, for all others. */
static inline int64_t rz_share_last(int64_t *share) {
    for (;;) {
        const int64_t old = RZ_LOAD_(share), begin = old & 0xffffffff, end = old >> 32;
        if (begin >= end) return -1;
        if (RZ_REPLACE_(share, old, (end - 1) << 32 | begin)) return end - 1;
    }
}

#endif
