/*
 * What the C tests need, in one header: every program is one translation unit.
 *
 * A program prints how many checks it made and exits with 0, or names the first that failed and exits with 1. It runs in an
 * empty folder of its own, which tests/capi.rs makes and removes.
 */
#ifndef CHECK_H
#define CHECK_H

#define _XOPEN_SOURCE 700

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atlock.h"

static atomic_ulong checks_made;

static inline void fail(const char *what, const char *file, int line) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

/* A fact that must hold. */
#define CHECK(fact)                                  \
    do {                                             \
        atomic_fetch_add(&checks_made, 1);           \
        if (!(fact)) fail(#fact, __FILE__, __LINE__); \
    } while (0)

/* A text as the two arguments that an input takes. */
#define TEXT(text) (const uint8_t *)(text), strlen(text)

/* The call must return ATLOCK_OK; inside it `error` is where an error goes, and stays untouched. */
#define SUCCEEDS(call)                                                              \
    do {                                                                            \
        atlock_buffer report_ = poisoned_buffer(), *error = &report_;               \
        int32_t status_ = (call);                                                   \
        if (status_ != ATLOCK_OK) show_error(#call, status_, error, __FILE__, __LINE__); \
        CHECK(is_poisoned(error, sizeof *error));                                   \
    } while (0)

/* The call must return `status` with a text that contains `part`; inside it `error` is where the error goes. */
#define FAILS(status, part, call)                                                              \
    do {                                                                                       \
        atlock_buffer report_ = poisoned_buffer(), *error = &report_;                          \
        int32_t status_ = (call);                                                              \
        if (status_ != (status)) show_error(#call, status_, error, __FILE__, __LINE__);        \
        if (!contains(error, part)) show_error("no \"" part "\" in", status_, error, __FILE__, __LINE__); \
        atomic_fetch_add(&checks_made, 1);                                                     \
        atlock_buffer_free(error);                                                             \
    } while (0)

/* The call must write exactly `text` to `out`, a buffer that this macro declares and frees. */
#define ANSWERS(text, call)                                                              \
    do {                                                                                 \
        atlock_buffer answer_, *out = &answer_;                                          \
        SUCCEEDS(call);                                                                  \
        if (!equals(out, text)) show_answer(#call, text, out, __FILE__, __LINE__);       \
        atomic_fetch_add(&checks_made, 1);                                               \
        atlock_buffer_free(out);                                                         \
    } while (0)

/* The byte that outputs are filled with to see whether a call wrote them. */
#define POISON 0xA5

static inline void poison(void *memory, size_t len) {
    memset(memory, POISON, len);
}

static inline bool is_poisoned(const void *memory, size_t len) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != POISON) return false;
    }
    return true;
}

static inline atlock_buffer poisoned_buffer(void) {
    atlock_buffer buffer;
    poison(&buffer, sizeof buffer);
    return buffer;
}

static inline bool equals(const atlock_buffer *buffer, const char *text) {
    size_t len = strlen(text);
    return buffer->len == len && (len == 0 || memcmp(buffer->data, text, len) == 0);
}

static inline bool starts_with(const atlock_buffer *buffer, const char *text) {
    size_t len = strlen(text);
    return buffer->len >= len && (len == 0 || memcmp(buffer->data, text, len) == 0);
}

static inline bool ends_with(const atlock_buffer *buffer, const char *text) {
    size_t len = strlen(text);
    return buffer->len >= len && memcmp(buffer->data + buffer->len - len, text, len) == 0;
}

static inline bool contains(const atlock_buffer *buffer, const char *part) {
    size_t len = strlen(part);
    for (size_t i = 0; i + len <= buffer->len; i++) {
        if (memcmp(buffer->data + i, part, len) == 0) return true;
    }
    return false;
}

static inline void show_error(const char *call, int32_t status, const atlock_buffer *error, const char *file, int line) {
    bool has_text = status != ATLOCK_OK && !is_poisoned(error, sizeof *error);
    fprintf(stderr, "%s:%d: %s\n  gave status %d: %.*s\n", file, line, call, (int)status,
            has_text ? (int)error->len : 0, has_text ? (const char *)error->data : "");
    exit(1);
}

static inline void show_answer(const char *call, const char *wanted, const atlock_buffer *out, const char *file, int line) {
    fprintf(stderr, "%s:%d: %s\n  gave   %.*s\n  wanted %s\n", file, line, call, (int)out->len, (const char *)out->data, wanted);
    exit(1);
}

/* A handle on the embedded store in `folder`. */
static inline atlock *open_folder(const char *folder) {
    char config[512];
    snprintf(config, sizeof config, "{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"%s\"}}", folder);
    atlock *handle = NULL;
    SUCCEEDS(atlock_open(TEXT(config), NULL, &handle, error));
    CHECK(handle != NULL);
    return handle;
}

/* The JSON of a project's lock. Static: the next call overwrites it. */
static inline const char *lock_json(const char *repo, const char *path, int pull) {
    static _Thread_local char json[1024];
    snprintf(json, sizeof json,
             "{\"Project\":{\"ProjectName\":\"\",\"RepoFullName\":\"%s\",\"Path\":\"%s\"},\"Pull\":{\"Num\":%d},"
             "\"User\":{\"Username\":\"ann\"},\"Workspace\":\"default\",\"Time\":\"2024-05-01T10:00:00Z\"}",
             repo, path, pull);
    return json;
}

/* The call must take the lock. */
static inline void take(const atlock *handle, const char *lock) {
    atlock_buffer out;
    SUCCEEDS(atlock_try_lock(handle, TEXT(lock), &out, error));
    CHECK(starts_with(&out, "{\"acquired\":true,\"token\":"));
    atlock_buffer_free(&out);
}

/* How a child process that runs `body` ends: its exit status, or minus the signal that killed it. */
static inline int run_in_child(void (*body)(void)) {
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int finish(const char *program) {
    printf("%s: %lu checks\n", program, atomic_load(&checks_made));
    return 0;
}

#endif
