/* Just enough JSON to walk valid, compact or spaced JSON. Values are compared as they are written, not decoded. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Decodes a JSON string into `to`, which holds at least its length, and returns how many bytes there are. \u is understood as
 * the library writes it: for control characters. */
static inline size_t json_unquote(slice quoted, char *to) {
    size_t len = 0;
    for (const char *at = quoted.start + 1, *end = quoted.start + quoted.len - 1; at < end; at++) {
        if (*at != '\\') {
            to[len++] = *at;
            continue;
        }
        static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
        const char *letter = strchr(letters, *++at);
        if (*at == 'u') {
            to[len++] = (char)strtol((char[]){at[3], at[4], '\0'}, NULL, 16);
            at += 4;
        } else {
            to[len++] = letter == NULL ? *at : meanings[letter - letters];
        }
    }
    return len;
}

/* Writes the JSON string of `text` into `to`, which holds at least six times its length and two, and returns how long it is. */
static inline size_t json_quote(slice text, char *to) {
    size_t len = 0;
    to[len++] = '"';
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.start[i];
        if (byte < ' ') {
            len += (size_t)sprintf(to + len, "\\u%04x", byte);
        } else {
            if (byte == '"' || byte == '\\') to[len++] = '\\';
            to[len++] = (char)byte;
        }
    }
    to[len++] = '"';
    return len;
}

/* The next element of an array after `previous`, which is {NULL, 0} for the first. */
static inline slice next_element(slice array, slice previous) {
    const slice none = {NULL, 0};
    const char *end = array.start + array.len;
    const char *at = json_space(previous.start == NULL ? array.start + 1 : previous.start + previous.len, end);
    if (previous.start != NULL && *at == ',') at = json_space(at + 1, end);
    if (*at == ']') return none;
    return (slice){at, (size_t)(json_value_end(at, end) - at)};
}

#endif
