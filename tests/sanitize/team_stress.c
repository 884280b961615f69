/* Runs the shares and the barrier of team.h as `run_all` of steps.pyx does, on pthreads, because the
 * thread sanitizer does not understand libgomp: many short steps, each of which reads what other threads
 * wrote in the step before. Compile with -fsanitize=thread.
 *
 *     team_stress THREADS STEPS SEED
 *
 * Ends with 1 if a task ran twice or not at all, or if the last outputs are not those of one thread. The
 * sanitizer reports whatever two threads touch with nothing that orders them. Both must be able to fail,
 * so tests break an order with -U__ATOMIC_ACQUIRE -D__ATOMIC_ACQUIRE=0 (and so on), and
 * RZ_STRESS_PLAIN_SHARES takes tasks without a lock or an atomic operation.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ryzanstein/team.h"

#define MOST_THREADS 64
#define MOST_TASKS 96

#ifdef RZ_STRESS_PLAIN_SHARES
static int64_t plain_first(int64_t *share) {
    const int64_t old = *share, begin = old & 0xffffffff, end = old >> 32;
    if (begin >= end) return -1;
    *share = old + 1;
    return begin;
}
#define rz_share_first plain_first
#endif

typedef struct stress {
    int threads;
    int64_t steps;
    uint64_t seed;
    rz_barrier barrier;
    struct {
        int64_t shares[2]; /* of this step and the next */
        int64_t stolen;
        int64_t unused[5]; /* one cache line a thread, as in workspace.pxd */
    } states[MOST_THREADS];
    uint64_t outputs[2][MOST_TASKS]; /* of a step and of the one before it; not atomic, and no locks */
    int64_t runs[MOST_TASKS];
} stress;

static uint64_t mixed(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* One to MOST_TASKS: fewer than there are threads, about as many, and many more. */
static int64_t tasks_of(const stress *job, int64_t step) {
    const uint64_t dice = mixed(job->seed ^ (uint64_t)step);
    const int64_t most = dice & 1 ? MOST_TASKS : dice & 2 ? 2 * job->threads
                                                          : 3;
    return 1 + (int64_t)(dice >> 8) % (most < MOST_TASKS ? most : MOST_TASKS);
}

/* A task: its output depends on two outputs of the step before, mostly of other threads. */
static void run(stress *job, int64_t step, int64_t task) {
    const uint64_t *before = job->outputs[(step + 1) & 1];
    const uint64_t dice = mixed(job->seed + (uint64_t)(step * MOST_TASKS + task));
    uint64_t value = dice ^ before[dice % MOST_TASKS] ^ before[(dice >> 32) % MOST_TASKS];
    for (int64_t i = task == 0 ? dice % 256 : 0; i >= 0; i--) value = mixed(value); /* the first share is slow: others steal */
    job->outputs[step & 1][task] = value;
    job->runs[task]++;
}

static void set_share(stress *job, int64_t step, int thread) {
    const int64_t tasks = tasks_of(job, step);
    rz_share_set(&job->states[thread].shares[step & 1], tasks * thread / job->threads, tasks * (thread + 1) / job->threads);
}

/* In about half of the steps nobody steals. Otherwise the shares would order what the barrier has to order. */
static int64_t next_task(stress *job, int64_t step, int thread) {
    const int turn = step & 1, others = mixed(job->seed + (uint64_t)step) & 1 ? job->threads : 0;
    int64_t task = rz_share_first(&job->states[thread].shares[turn]);
    for (int other = 1; task < 0 && other < others; other++) {
        task = rz_share_last(&job->states[(thread + other) % job->threads].shares[turn]);
        if (task >= 0) job->states[thread].stolen++;
    }
    return task;
}

typedef struct member {
    stress *job;
    int thread;
} member;

static void *run_all(void *argument) {
    stress *job = ((member *)argument)->job;
    const int thread = ((member *)argument)->thread;
    set_share(job, 0, thread);
    rz_barrier_wait(&job->barrier, job->threads);
    for (int64_t step = 0; step < job->steps; step++) {
        for (int64_t task; (task = next_task(job, step, thread)) >= 0;) run(job, step, task);
        if (step + 1 < job->steps) {
            set_share(job, step + 1, thread);
            rz_barrier_wait(&job->barrier, job->threads);
        }
    }
    return NULL;
}

static stress *new_stress(int threads, int64_t steps, uint64_t seed) {
    stress *job = aligned_alloc(64, (sizeof(stress) + 63) / 64 * 64);
    if (job == NULL) exit(2);
    memset(job, 0, sizeof(stress));
    job->threads = threads, job->steps = steps, job->seed = seed;
    rz_barrier_init(&job->barrier);
    return job;
}

int main(int count, char **arguments) {
    const int threads = count == 4 ? atoi(arguments[1]) : 0;
    const int64_t steps = count == 4 ? atoll(arguments[2]) : 0;
    if (threads < 1 || threads > MOST_THREADS || steps < 1) {
        fprintf(stderr, "usage: team_stress THREADS(1..%d) STEPS SEED\n", MOST_THREADS);
        return 2;
    }
    stress *team = new_stress(threads, steps, strtoull(arguments[3], NULL, 10));
    stress *alone = new_stress(threads, steps, team->seed);
    pthread_t handles[MOST_THREADS];
    member members[MOST_THREADS];
    int64_t tasks = 0, stolen = 0;

    for (int thread = 0; thread < threads; thread++) {
        members[thread] = (member){team, thread};
        if (pthread_create(&handles[thread], NULL, run_all, &members[thread]) != 0) return 2;
    }
    for (int64_t step = 0; step < steps; step++)
        for (int64_t task = 0; task < tasks_of(alone, step); task++, tasks++) run(alone, step, task);
    for (int thread = 0; thread < threads; thread++) pthread_join(handles[thread], NULL);

    for (int thread = 0; thread < threads; thread++) stolen += team->states[thread].stolen;
    const int same = memcmp(team->outputs, alone->outputs, sizeof team->outputs) == 0 &&
                     memcmp(team->runs, alone->runs, sizeof team->runs) == 0;
    printf("threads %d steps %lld tasks %lld stolen %lld %s\n", threads, (long long)steps, (long long)tasks,
           (long long)stolen, same ? "right" : "WRONG");
    free(team), free(alone);
    return same ? 0 : 1;
}
