/* One handle, many threads. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 64, ROUNDS = 20 };

static atlock *handle;
static pthread_barrier_t barrier;
static atomic_int winners;
static atomic_int told; /* losers who were told a holder */

static void run_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, body, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* Every round all try to take one lock; the winner releases it after all were answered. */
static void *compete(void *number) {
    int pull = (int)(intptr_t)number + 1;
    for (int round = 0; round < ROUNDS; round++) {
        const char *lock = lock_json("acme/infra", ".", pull);
        pthread_barrier_wait(&barrier);
        atlock_buffer out;
        SUCCEEDS(atlock_try_lock(handle, TEXT(lock), &out, error));
        bool won = starts_with(&out, "{\"acquired\":true,");
        if (!won) CHECK(starts_with(&out, "{\"acquired\":false,\"lock\":{\"Project\""));
        atomic_fetch_add(won ? &winners : &told, 1);
        atlock_buffer_free(&out);
        pthread_barrier_wait(&barrier);
        if (won) ANSWERS(lock, atlock_unlock_if_owned_by_pull(handle, TEXT(lock), pull, out, error));
    }
    return NULL;
}

/* Every thread with locks of its own, an error now and then, and lists of everybody's. */
static void *mix(void *number) {
    char path[32];
    snprintf(path, sizeof path, "own-%d", (int)(intptr_t)number);
    for (int round = 0; round < ROUNDS; round++) {
        const char *lock = lock_json("acme/infra", path, round);
        take(handle, lock);
        ANSWERS(lock, atlock_get_lock(handle, TEXT(lock), out, error));
        atlock_buffer out;
        FAILS(ATLOCK_INVALID_JSON, "at byte", atlock_get_lock(handle, TEXT(path), &out, error));
        atlock_spans spans;
        SUCCEEDS(atlock_list(handle, &out, &spans, error));
        CHECK(contains(&out, lock) && spans.len >= 1 && spans.len <= THREADS);
        atlock_spans_free(&spans);
        atlock_buffer_free(&out);
        ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    }
    return NULL;
}

/* Until the handle is closed under it, every call works; from then on every call says so. */
static void *work_until_closed(void *number) {
    char path[32];
    snprintf(path, sizeof path, "closing-%d", (int)(intptr_t)number);
    pthread_barrier_wait(&barrier);
    for (int32_t status = ATLOCK_OK; status != ATLOCK_CLOSED;) {
        atlock_buffer out, error;
        status = atlock_try_lock(handle, TEXT(lock_json("acme/infra", path, 1)), &out, &error);
        CHECK(status == ATLOCK_OK || status == ATLOCK_CLOSED);
        atlock_buffer_free(status == ATLOCK_OK ? &out : &error);
    }
    return NULL;
}

static void *close_it(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
    SUCCEEDS(atlock_close(handle, error));
    return NULL;
}

int main(void) {
    handle = open_folder("locks");
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    run_threads(compete);
    CHECK(atomic_load(&winners) == ROUNDS);
    CHECK(atomic_load(&told) == ROUNDS * (THREADS - 1));
    CHECK(pthread_barrier_destroy(&barrier) == 0);

    run_threads(mix);
    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_list(handle, out, NULL, error));

    CHECK(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    pthread_t closer;
    CHECK(pthread_create(&closer, NULL, close_it, NULL) == 0);
    run_threads(work_until_closed);
    CHECK(pthread_join(closer, NULL) == 0);
    CHECK(pthread_barrier_destroy(&barrier) == 0);
    atlock_free(handle);
    return finish("threads");
}
