/* What the sanitizers must find, or they are not on. `.ci/sanitize address` compiles it like the modules and
 * calls each function from Python, in the environment in which the tests run. */
#include <stdint.h>
#include <stdlib.h>

int64_t past_the_end(int64_t count) {
    volatile int64_t *values = malloc((size_t)count * sizeof *values);
    const int64_t value = values[count];
    free((void *)values);
    return value;
}

int64_t after_free(int64_t count) {
    volatile int64_t *values = malloc((size_t)count * sizeof *values);
    free((void *)values);
    return values[0];
}

int64_t too_large(int64_t count) {
    int32_t sum = INT32_MAX;
    return sum + (int32_t)count;
}

int64_t shifted_too_far(int64_t count) { return INT64_C(1) << (60 + count); }

int64_t no_integer(int64_t count) {
    volatile float infinite = (float)count / 0.0f;
    return (int32_t)infinite;
}
