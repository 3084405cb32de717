/* Just enough JSON to walk valid, compact or spaced JSON without decoding it: values are compared as they are written. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A piece of JSON text, not NUL-terminated; `start` is NULL for "no such member". */
typedef struct slice {
    const char *start;
    size_t len;
} slice;

static inline bool same(slice a, slice b) {
    return a.start != NULL && b.start != NULL && a.len == b.len && memcmp(a.start, b.start, a.len) == 0;
}

static inline bool is_text(slice a, const char *text) {
    return same(a, (slice){text, strlen(text)});
}

static inline const char *json_space(const char *at, const char *end) {
    while (at < end && strchr(" \t\r\n", *at) != NULL) at++;
    return at;
}

static inline const char *json_string_end(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') at++;
    }
    return at + 1;
}

/* Where the value that begins at `at` ends. */
static inline const char *json_value_end(const char *at, const char *end) {
    size_t depth = 0;
    do {
        if (*at == '"') {
            at = json_string_end(at, end);
        } else if (strchr("{[", *at) != NULL) {
            depth++;
            at++;
        } else if (strchr("}]", *at) != NULL) {
            depth--;
            at++;
        } else if (depth == 0) {
            while (at < end && strchr(",}] \t\r\n", *at) == NULL) at++;
        } else {
            at++;
        }
    } while (depth > 0 && at < end);
    return at;
}

/* The value of a member of an object. */
static inline slice member(slice object, const char *name) {
    const slice none = {NULL, 0};
    if (object.start == NULL || object.len == 0 || *object.start != '{') return none;
    const char *at = object.start + 1, *end = object.start + object.len;
    while ((at = json_space(at, end)) < end && *at == '"') {
        const char *key = at + 1;
        at = json_string_end(at, end);
        size_t key_len = (size_t)(at - 1 - key);
        at = json_space(at, end) + 1; /* the colon */
        const char *value = json_space(at, end);
        at = json_value_end(value, end);
        if (key_len == strlen(name) && memcmp(key, name, key_len) == 0) return (slice){value, (size_t)(at - value)};
        at = json_space(at, end);
        if (at < end && *at == ',') at++;
    }
    return none;
}

#endif
