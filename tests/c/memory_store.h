/*
 * A host store: all eleven operations over one list in memory. Keys and values stay the JSON text they came as.
 */
#ifndef MEMORY_STORE_H
#define MEMORY_STORE_H

#include <pthread.h>

#include "check.h"
#include "json.h"

typedef struct entry {
    struct entry *next;
    char *key; /* {"project":"…"}, {"command":"…"}, or a pull status's "…" */
    char *value;
} entry;

typedef struct memory_store {
    pthread_mutex_t mutex;
    entry *entries;
    int calls;
    int released;
    const char *failure; /* when set, every call fails with this text */
} memory_store;

/* A JSON answer that grows. */
typedef struct text {
    char *start;
    size_t len;
} text;

static inline void append(text *to, slice piece) {
    to->start = realloc(to->start, to->len + piece.len + 1);
    CHECK(to->start != NULL);
    memcpy(to->start + to->len, piece.start, piece.len);
    to->len += piece.len;
    to->start[to->len] = '\0';
}

static inline void append_text(text *to, const char *piece) {
    append(to, (slice){piece, strlen(piece)});
}

static inline char *copied(slice piece) {
    text copy = {NULL, 0};
    append(&copy, piece);
    return copy.start;
}

static inline slice whole(const char *json) {
    return (slice){json, strlen(json)};
}

static inline entry **find(memory_store *store, slice key) {
    entry **at = &store->entries;
    while (*at != NULL && !same(whole((*at)->key), key)) at = &(*at)->next;
    return at;
}

static inline void insert(memory_store *store, slice key, slice value) {
    entry *added = malloc(sizeof *added);
    CHECK(added != NULL);
    *added = (entry){store->entries, copied(key), copied(value)};
    store->entries = added;
}

static inline void erase(entry **at) {
    entry *gone = *at;
    *at = gone->next;
    free(gone->key);
    free(gone->value);
    free(gone);
}

static inline bool is_project(const entry *one) {
    return member(whole(one->key), "project").start != NULL;
}

static inline void append_value_or_null(text *to, entry *found) {
    append_text(to, found == NULL ? "null" : found->value);
}

static inline bool is_null(slice value) {
    return value.start == NULL || is_text(value, "null");
}

static inline bool has_fields(slice lock, slice fields) {
    slice project = member(lock, "Project");
    return is_null(fields) || (same(member(fields, "repo"), member(project, "RepoFullName")) &&
                               same(member(fields, "path"), member(project, "Path")) &&
                               same(member(fields, "workspace"), member(lock, "Workspace")) &&
                               same(member(fields, "project"), member(project, "ProjectName")));
}

static inline bool has_pull(slice lock, slice pull_num) {
    return is_null(pull_num) || same(member(member(lock, "Pull"), "Num"), pull_num);
}

static inline void grant(memory_store *store, slice input, text *answer) {
    entry *held = *find(store, member(input, "key"));
    if (held == NULL) {
        insert(store, member(input, "key"), member(input, "value"));
        char granted[64];
        snprintf(granted, sizeof granted, "{\"granted\":true,\"token\":%d}", store->calls);
        append_text(answer, granted);
    } else {
        append_text(answer, "{\"granted\":false,\"value\":");
        append_text(answer, held->value);
        append_text(answer, "}");
    }
}

static inline void release_lock(memory_store *store, slice input, text *answer) {
    entry **at = find(store, member(input, "key"));
    bool meant = *at != NULL && has_fields(whole((*at)->value), member(input, "fields")) &&
                 has_pull(whole((*at)->value), member(input, "pull_num"));
    append_value_or_null(answer, meant ? *at : NULL);
    if (meant) erase(at);
}

static inline void discard(memory_store *store, slice input, text *answer) {
    entry **at = find(store, member(input, "key"));
    append_value_or_null(answer, *at);
    if (*at != NULL) erase(at);
}

static inline void list_locks(memory_store *store, text *answer) {
    const char *separator = "[";
    for (entry *one = store->entries; one != NULL; one = one->next) {
        if (!is_project(one)) continue;
        append_text(answer, separator);
        append_text(answer, one->value);
        separator = ",";
    }
    append_text(answer, *separator == '[' ? "[]" : "]");
}

static inline void release_by_pull(memory_store *store, slice input, text *answer) {
    const char *separator = "[";
    for (entry **at = &store->entries; *at != NULL;) {
        slice lock = whole((*at)->value);
        if (is_project(*at) && same(member(member(lock, "Project"), "RepoFullName"), member(input, "repo")) &&
            has_pull(lock, member(input, "num"))) {
            append_text(answer, separator);
            append_text(answer, (*at)->value);
            separator = ",";
            erase(at);
        } else {
            at = &(*at)->next;
        }
    }
    append_text(answer, *separator == '[' ? "[]" : "]");
}

static inline void swap_pull_status(memory_store *store, slice input, text *answer) {
    slice expected = member(input, "expected"), value = member(expected, "value"), new_value = member(input, "new");
    entry **at = find(store, member(input, "key"));
    bool any = is_text(member(expected, "any"), "true");
    bool as_expected = any || (*at == NULL ? is_null(value) : same(whole((*at)->value), value));
    if (!as_expected) {
        append_text(answer, "{\"swapped\":false,\"value\":");
        append_value_or_null(answer, *at);
        append_text(answer, "}");
        return;
    }
    if (*at != NULL) erase(at);
    if (!is_null(new_value)) insert(store, member(input, "key"), new_value);
    append_text(answer, "{\"swapped\":true}");
}

/* A pull status's key is in the list as a plain text; the two operations that mirror wrap it. */
static inline void dump(memory_store *store, text *answer) {
    const char *separator = "[";
    for (entry *one = store->entries; one != NULL; one = one->next) {
        bool is_status = *one->key == '"';
        char *quoted = malloc(6 * strlen(one->value) + 2);
        CHECK(quoted != NULL);
        append_text(answer, separator);
        append_text(answer, is_status ? "{\"key\":{\"status\":" : "{\"key\":");
        append_text(answer, one->key);
        append_text(answer, is_status ? "},\"value\":" : ",\"value\":");
        append(answer, (slice){quoted, json_quote(whole(one->value), quoted)});
        append_text(answer, "}");
        free(quoted);
        separator = ",";
    }
    append_text(answer, *separator == '[' ? "[]" : "]");
}

static inline void apply(memory_store *store, slice input, text *answer) {
    slice writes = member(input, "writes");
    for (slice write = next_element(writes, (slice){NULL, 0}); write.start != NULL; write = next_element(writes, write)) {
        slice key = member(write, "key"), status = member(key, "status"), value = member(write, "value");
        if (status.start != NULL) key = status;
        entry **at = find(store, key);
        if (*at != NULL) erase(at);
        if (is_text(value, "null")) continue;
        char *plain = malloc(value.len);
        CHECK(plain != NULL);
        insert(store, key, (slice){plain, json_unquote(value, plain)});
        free(plain);
    }
    append_text(answer, "{}");
}

static inline int32_t memory_store_call(void *ctx, uint32_t op, const uint8_t *input_bytes, size_t input_len,
                                        atlock_buffer *output, atlock_buffer *error) {
    memory_store *store = ctx;
    slice input = {(const char *)input_bytes, input_len};
    text answer = {NULL, 0};
    pthread_mutex_lock(&store->mutex);
    store->calls++;
    const char *failure = store->failure;
    if (failure == NULL) {
        switch (op) {
            case ATLOCK_OP_GRANT: grant(store, input, &answer); break;
            case ATLOCK_OP_RELEASE: release_lock(store, input, &answer); break;
            case ATLOCK_OP_DISCARD: discard(store, input, &answer); break;
            case ATLOCK_OP_GET:
            case ATLOCK_OP_PULL_STATUS: append_value_or_null(&answer, *find(store, member(input, "key"))); break;
            case ATLOCK_OP_LIST: list_locks(store, &answer); break;
            case ATLOCK_OP_RELEASE_BY_PULL: release_by_pull(store, input, &answer); break;
            case ATLOCK_OP_SWAP_PULL_STATUS: swap_pull_status(store, input, &answer); break;
            case ATLOCK_OP_PING: append_text(&answer, "{}"); break;
            case ATLOCK_OP_DUMP: dump(store, &answer); break;
            case ATLOCK_OP_APPLY: apply(store, input, &answer); break;
            default: failure = "an operation of a later version";
        }
    }
    pthread_mutex_unlock(&store->mutex);
    if (failure != NULL) {
        atlock_buffer_assign(error, TEXT(failure));
        return 42;
    }
    atlock_buffer_assign(output, (const uint8_t *)answer.start, answer.len);
    free(answer.start);
    return 0;
}

static inline void memory_store_release(void *ctx) {
    memory_store *store = ctx;
    store->released++;
    while (store->entries != NULL) erase(&store->entries);
}

/* The callbacks over `store`, which is reset. */
static inline atlock_host_store memory_store_callbacks(memory_store *store) {
    *store = (memory_store){.mutex = PTHREAD_MUTEX_INITIALIZER};
    return (atlock_host_store){ATLOCK_HOST_STORE_ABI_VERSION, store, memory_store_call, memory_store_release};
}

#endif
