/* Many locks: listing them, where each lies in the answer, and releasing those of one pull. */
#include "check.h"

static bool span_is(const atlock_buffer *json, atlock_span span, const char *text) {
    size_t len = strlen(text);
    return span.start <= span.end && span.end <= json->len && span.end - span.start == len &&
           memcmp(json->data + span.start, text, len) == 0;
}

/* How many of the spans are exactly `text`. */
static size_t spans_equal_to(const atlock_buffer *json, const atlock_spans *spans, const char *text) {
    size_t found = 0;
    for (size_t i = 0; i < spans->len; i++) {
        found += span_is(json, spans->data[i], text);
    }
    return found;
}

static void an_empty_list(const atlock *handle) {
    atlock_buffer out;
    atlock_spans spans;
    SUCCEEDS(atlock_list(handle, &out, &spans, error));
    CHECK(equals(&out, "{\"locks\":[],\"unreadable\":[]}"));
    CHECK(spans.len == 0);
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
    ANSWERS("[]", atlock_list_locks(handle, out, error));

    SUCCEEDS(atlock_unlock_by_pull(handle, TEXT("acme/infra"), 1, &out, &spans, error));
    CHECK(equals(&out, "{\"locks\":[],\"unreadable\":[]}"));
    CHECK(spans.len == 0);
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
}

static void spans_delimit_each_lock(const atlock *handle) {
    enum { COUNT = 50 };
    char path[16];
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, "p%02d", i);
        take(handle, lock_json("acme/spans", path, i));
    }
    atlock_buffer out, without;
    atlock_spans spans;
    SUCCEEDS(atlock_list(handle, &out, &spans, error));
    SUCCEEDS(atlock_list(handle, &without, NULL, error));
    CHECK(without.len == out.len && memcmp(without.data, out.data, out.len) == 0);
    CHECK(spans.len == COUNT);
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, "p%02d", i);
        CHECK(spans_equal_to(&out, &spans, lock_json("acme/spans", path, i)) == 1);
    }
    /* Between two locks there is one comma, and nothing before the first and behind the last but the frame. */
    CHECK(spans.data[0].start == strlen("{\"locks\":["));
    for (int i = 1; i < COUNT; i++) {
        CHECK(spans.data[i].start == spans.data[i - 1].end + 1 && out.data[spans.data[i - 1].end] == ',');
    }
    CHECK(out.len == spans.data[COUNT - 1].end + strlen("],\"unreadable\":[]}"));
    /* The array is the same locks in the same order, without the frame. */
    atlock_buffer array;
    SUCCEEDS(atlock_list_locks(handle, &array, error));
    size_t locks_len = spans.data[COUNT - 1].end - spans.data[0].start;
    CHECK(array.len == locks_len + 2 && array.data[0] == '[' && array.data[array.len - 1] == ']');
    CHECK(memcmp(array.data + 1, out.data + spans.data[0].start, locks_len) == 0);
    atlock_buffer_free(&array);
    atlock_spans_free(&spans);
    CHECK(spans.data == NULL && spans.len == 0);
    atlock_spans_free(&spans);
    atlock_buffer_free(&without);
    atlock_buffer_free(&out);

    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, "p%02d", i);
        ANSWERS(lock_json("acme/spans", path, i), atlock_unlock(handle, TEXT(lock_json("acme/spans", path, i)), out, error));
    }
}

/* Repositories whose names begin alike, and another pull of the same one: only what is named may go. */
static void unlock_by_pull_is_exact(const atlock *handle) {
    const char *others[] = {"a/b2", "a/b/c", "a", "A/b", "x/a/b"};
    const size_t others_len = sizeof others / sizeof *others;
    take(handle, lock_json("a/b", "one", 1));
    take(handle, lock_json("a/b", "two", 1));
    take(handle, lock_json("a/b", "three", 11));
    for (size_t i = 0; i < others_len; i++) {
        take(handle, lock_json(others[i], "one", 1));
    }

    atlock_buffer out;
    atlock_spans spans;
    SUCCEEDS(atlock_unlock_by_pull(handle, TEXT("a/b"), 1, &out, &spans, error));
    CHECK(spans.len == 2);
    CHECK(spans_equal_to(&out, &spans, lock_json("a/b", "one", 1)) == 1);
    CHECK(spans_equal_to(&out, &spans, lock_json("a/b", "two", 1)) == 1);
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);

    SUCCEEDS(atlock_list(handle, &out, &spans, error));
    CHECK(spans.len == others_len + 1);
    CHECK(spans_equal_to(&out, &spans, lock_json("a/b", "three", 11)) == 1);
    for (size_t i = 0; i < others_len; i++) {
        CHECK(spans_equal_to(&out, &spans, lock_json(others[i], "one", 1)) == 1);
    }
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);

    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_unlock_by_pull(handle, TEXT("a/b"), 1, out, NULL, error));
    for (size_t i = 0; i < others_len; i++) {
        SUCCEEDS(atlock_unlock_by_pull(handle, TEXT(others[i]), 1, &out, NULL, error));
        CHECK(contains(&out, lock_json(others[i], "one", 1)));
        atlock_buffer_free(&out);
    }
    SUCCEEDS(atlock_unlock_by_pull(handle, TEXT("a/b"), 11, &out, NULL, error));
    atlock_buffer_free(&out);
}

static void command_locks_are_not_listed(const atlock *handle) {
    ANSWERS("null", atlock_check_command_lock(handle, TEXT("apply"), out, error));
    atlock_buffer out;
    SUCCEEDS(atlock_lock_command(handle, TEXT("apply"), TEXT("{}"), &out, error));
    atlock_buffer_free(&out);
    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_list(handle, out, NULL, error));
    ANSWERS("{}", atlock_unlock_command(handle, TEXT("apply"), out, error));
}

int main(void) {
    atlock *handle = open_folder("locks");
    an_empty_list(handle);
    spans_delimit_each_lock(handle);
    unlock_by_pull_is_exact(handle);
    command_locks_are_not_listed(handle);
    an_empty_list(handle);
    atlock_free(handle);
    return finish("listing");
}
