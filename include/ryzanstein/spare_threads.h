#ifndef RYZANSTEIN_SPARE_THREADS_H
#define RYZANSTEIN_SPARE_THREADS_H

/* How many threads the system would start now. Where it refuses one (a limit of processes or of memory), libgomp
 * ends the whole process, so this is found out first: the threads are started, all at a time, and end at once. */

#ifdef _WIN32

static int rz_spare_threads(int wanted, size_t stack_bytes) {
    (void)stack_bytes;
    return wanted; /* no such limits */
}

#else

#include <pthread.h>
#include <stdlib.h>

static void *rz_wait_for_lock_(void *lock) {
    pthread_mutex_lock((pthread_mutex_t *)lock);
    pthread_mutex_unlock((pthread_mutex_t *)lock);
    return NULL;
}

/* At most `wanted`. stack_bytes: of each thread, as libgomp gives it; 0: the default. */
static int rz_spare_threads(int wanted, size_t stack_bytes) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_attr_t attributes;
    pthread_t *threads = (pthread_t *)malloc((size_t)wanted * sizeof *threads);
    int started = 0;
    if (threads == NULL) return 0;
    if (pthread_attr_init(&attributes) != 0) {
        free(threads);
        return 0;
    }
    if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_mutex_lock(&lock);
    while (started < wanted && pthread_create(&threads[started], &attributes, rz_wait_for_lock_, &lock) == 0) started++;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_attr_destroy(&attributes);
    free(threads);
    return started;
}

#endif
#endif
