/*
 * Takes the lock of one project for pull request 1, and says in plain words what happened.
 *
 *     cc take_lock.c $(pkg-config --cflags --libs atlock) -o take_lock
 *     ./take_lock ./locks
 *
 * The locks are kept in the given folder by the embedded store, so running it again finds the lock taken.
 */
#include <atlock.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What Atlantis stores for a lock. The library keeps it byte for byte and reads only the fields that name the lock. */
static const char LOCK[] =
    "{\"Project\":{\"ProjectName\":\"\",\"RepoFullName\":\"acme/infra\",\"Path\":\"network\"},"
    "\"Pull\":{\"Num\":1,\"URL\":\"https://github.com/acme/infra/pull/1\",\"BaseBranch\":\"main\",\"Author\":\"ann\"},"
    "\"User\":{\"Username\":\"ann\"},\"Workspace\":\"default\",\"Time\":\"2024-05-01T10:00:00Z\"}";

/* Prints why `what` failed and frees the text. Every failing call fills `error`; the caller owns it. */
static void complain(const char *what, int32_t status, atlock_buffer *error) {
    fprintf(stderr, "could not %s (status %d): %.*s\n", what, (int)status, (int)error->len, (const char *)error->data);
    atlock_buffer_free(error);
}

/* Opens the embedded store in `folder`; NULL, and a complaint, if that fails. */
static atlock *open_store(const char *folder) {
    char config[4096];
    /* YAML; in its single quotes nothing but a quote is special. */
    if (strchr(folder, '\'') != NULL ||
        snprintf(config, sizeof config, "locking: {backend: sled, data_dir: '%s'}", folder) >= (int)sizeof config) {
        fprintf(stderr, "the folder's name is too long, or has a quote in it\n");
        return NULL;
    }
    atlock *locks = NULL;
    atlock_buffer error = ATLOCK_BUFFER_INIT;
    int32_t status = atlock_open((const uint8_t *)config, strlen(config), NULL, &locks, &error);
    if (status != ATLOCK_OK) complain("open the store", status, &error);
    return locks;
}

/* Tries to take the lock once. Somebody else holding it is an answer like any other, not an error. */
static bool take(const atlock *locks) {
    atlock_buffer answer = ATLOCK_BUFFER_INIT, error = ATLOCK_BUFFER_INIT;
    int32_t status = atlock_try_lock(locks, (const uint8_t *)LOCK, strlen(LOCK), &answer, &error);
    if (status != ATLOCK_OK) {
        complain("try the lock", status, &error);
        return false;
    }
    static const char taken[] = "{\"acquired\":true";
    if (answer.len > strlen(taken) && memcmp(answer.data, taken, strlen(taken)) == 0) {
        printf("took the lock of acme/infra, folder network, for pull request 1\n");
    } else {
        printf("the lock is held already: %.*s\n", (int)answer.len, (const char *)answer.data);
    }
    atlock_buffer_free(&answer);
    return true;
}

/* Shows everything that is locked in this store. */
static bool show_all(const atlock *locks) {
    atlock_buffer list = ATLOCK_BUFFER_INIT, error = ATLOCK_BUFFER_INIT;
    atlock_spans spans = ATLOCK_SPANS_INIT;
    int32_t status = atlock_list(locks, &list, &spans, &error);
    if (status != ATLOCK_OK) {
        complain("list the locks", status, &error);
        return false;
    }
    printf("locks in the store: %zu\n", spans.len);
    for (size_t i = 0; i < spans.len; i++) {
        int len = (int)(spans.data[i].end - spans.data[i].start);
        printf("  %.*s\n", len, (const char *)list.data + spans.data[i].start);
    }
    atlock_spans_free(&spans);
    atlock_buffer_free(&list);
    return true;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s <folder for the locks>\n", argv[0]);
        return EXIT_FAILURE;
    }
    atlock *locks = open_store(argv[1]);
    if (locks == NULL) return EXIT_FAILURE;

    bool ok = take(locks) && show_all(locks);

    /* Closing flushes and hands the folder over; atlock_free would do it too, but could not report a failure. */
    atlock_buffer error = ATLOCK_BUFFER_INIT;
    int32_t status = atlock_close(locks, &error);
    if (status != ATLOCK_OK) {
        complain("close the store", status, &error);
        ok = false;
    }
    atlock_free(locks);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
