/* Whatever a caller passes in, it gets a status and a text, and its outputs stay as they were. */
#include "check.h"

static atlock *handle;

/* Every output that a call in this file writes to. */
static struct outputs {
    atlock_buffer out;
    atlock_spans spans;
    atlock *handle;
    int32_t swapped;
} outputs;

/* The call must be refused with `status` and a text with `part`, write no output, and do the same without a place for the text. */
#define REFUSED(status, part, call)                                                       \
    do {                                                                                  \
        poison(&outputs, sizeof outputs);                                                 \
        FAILS(status, part, call);                                                        \
        atlock_buffer *error = NULL;                                                      \
        CHECK((call) == (status));                                                        \
        CHECK(is_poisoned(&outputs, sizeof outputs));                                     \
    } while (0)

#define OUT &outputs.out
#define SPANS &outputs.spans
#define LOCK TEXT(lock_json("acme/infra", ".", 1))
#define NOTHING NULL, 0
#define NULL_WITH_LENGTH NULL, 1
#define IMPOSSIBLE (const uint8_t *)"x", SIZE_MAX
#define NOT_UTF8 TEXT("ab\xff" "c")
#define KEY TEXT("h::r::1")

static void null_handle(void) {
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_close(NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_ping(NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_status(NULL, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_health(NULL, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_try_lock(NULL, LOCK, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_unlock(NULL, LOCK, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_unlock_if_owned_by_pull(NULL, LOCK, 1, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_get_lock(NULL, LOCK, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_discard(NULL, LOCK, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_list(NULL, OUT, SPANS, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_list_locks(NULL, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_unlock_by_pull(NULL, TEXT("r"), 1, OUT, SPANS, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_lock_command(NULL, TEXT("apply"), TEXT("{}"), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_unlock_command(NULL, TEXT("apply"), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_check_command_lock(NULL, TEXT("apply"), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_get_pull_status(NULL, KEY, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null",
            atlock_swap_pull_status(NULL, KEY, ATLOCK_EXPECT_ANY, NOTHING, NOTHING, &outputs.swapped, OUT, error));
}

static void null_output(void) {
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_load_config(NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_load_config_over(TEXT("{}"), NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_open(TEXT("{}"), NULL, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_status(handle, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_health(handle, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_try_lock(handle, LOCK, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_unlock(handle, LOCK, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_unlock_if_owned_by_pull(handle, LOCK, 1, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_get_lock(handle, LOCK, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_discard(handle, LOCK, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_list(handle, NULL, SPANS, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_list_locks(handle, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_unlock_by_pull(handle, TEXT("r"), 1, NULL, SPANS, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_lock_command(handle, TEXT("apply"), TEXT("{}"), NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_unlock_command(handle, TEXT("apply"), NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_check_command_lock(handle, TEXT("apply"), NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_get_pull_status(handle, KEY, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "swapped is null",
            atlock_swap_pull_status(handle, KEY, ATLOCK_EXPECT_ANY, NOTHING, NOTHING, NULL, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "current is null",
            atlock_swap_pull_status(handle, KEY, ATLOCK_EXPECT_ANY, NOTHING, NOTHING, &outputs.swapped, NULL, error));
}

/* Each input of each function, with a pointer and length that cannot be. */
#define EACH_INPUT(status, part, INPUT)                                                                                   \
    REFUSED(status, part, atlock_load_config(INPUT, OUT, error));                                                         \
    REFUSED(status, part, atlock_load_config_over(INPUT, NOTHING, OUT, error));                                           \
    REFUSED(status, part, atlock_load_config_over(TEXT("{}"), INPUT, OUT, error));                                        \
    REFUSED(status, part, atlock_open(INPUT, NULL, &outputs.handle, error));                                              \
    REFUSED(status, part, atlock_unlock_by_pull(handle, INPUT, 1, OUT, SPANS, error));                                    \
    REFUSED(status, part, atlock_lock_command(handle, INPUT, TEXT("{}"), OUT, error));                                    \
    REFUSED(status, part, atlock_unlock_command(handle, INPUT, OUT, error));                                              \
    REFUSED(status, part, atlock_check_command_lock(handle, INPUT, OUT, error));                                          \
    REFUSED(status, part, atlock_get_pull_status(handle, INPUT, OUT, error));                                             \
    REFUSED(status, part, atlock_swap_pull_status(handle, INPUT, ATLOCK_EXPECT_ANY, NOTHING, NOTHING, &outputs.swapped, OUT, error))
#define EACH_JSON_INPUT(status, part, INPUT)                                                                                  \
    REFUSED(status, part, atlock_try_lock(handle, INPUT, OUT, error));                                                        \
    REFUSED(status, part, atlock_unlock(handle, INPUT, OUT, error));                                                          \
    REFUSED(status, part, atlock_unlock_if_owned_by_pull(handle, INPUT, 1, OUT, error));                                      \
    REFUSED(status, part, atlock_get_lock(handle, INPUT, OUT, error));                                                        \
    REFUSED(status, part, atlock_discard(handle, INPUT, OUT, error));                                                         \
    REFUSED(status, part, atlock_lock_command(handle, TEXT("apply"), INPUT, OUT, error))
#define EACH_STATUS_INPUT(status, part, INPUT)                                                                                \
    REFUSED(status, part,                                                                                                     \
            atlock_swap_pull_status(handle, KEY, ATLOCK_EXPECT_ANY, NOTHING, INPUT, &outputs.swapped, OUT, error))

static void impossible_inputs(void) {
    EACH_INPUT(ATLOCK_INVALID_ARGUMENT, "is null, but its length is 1", NULL_WITH_LENGTH);
    EACH_JSON_INPUT(ATLOCK_INVALID_ARGUMENT, "is null, but its length is 1", NULL_WITH_LENGTH);
    EACH_STATUS_INPUT(ATLOCK_INVALID_ARGUMENT, "new_value is null, but its length is 1", NULL_WITH_LENGTH);
    EACH_INPUT(ATLOCK_INVALID_ARGUMENT, "length is impossible", IMPOSSIBLE);
    EACH_JSON_INPUT(ATLOCK_INVALID_ARGUMENT, "length is impossible", IMPOSSIBLE);
    EACH_STATUS_INPUT(ATLOCK_INVALID_ARGUMENT, "length is impossible", IMPOSSIBLE);
    REFUSED(ATLOCK_INVALID_ARGUMENT, "expected is null, but its length is 1",
            atlock_swap_pull_status(handle, KEY, ATLOCK_EXPECT_BYTES, NULL_WITH_LENGTH, NOTHING, &outputs.swapped, OUT, error));
}

static void wrong_utf8(void) {
    EACH_INPUT(ATLOCK_INVALID_ARGUMENT, "not UTF-8 at byte 2", NOT_UTF8);
    /* Inside JSON it is JSON that is wrong. The string opens at byte 8, the wrong byte is number 10. */
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte", TEXT("{\"Key\":\"a\xff\"}"));
    REFUSED(ATLOCK_INVALID_JSON, "at byte 9 of 12", atlock_get_lock(handle, TEXT("{\"Key\":\"a\xff\"}"), OUT, error));
}

static void bad_json(void) {
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte 0 of 0", NOTHING);
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte 0 of 0", TEXT(""));
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte 1 of 2", TEXT("{x"));
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte", TEXT("{} {}"));
    EACH_STATUS_INPUT(ATLOCK_INVALID_JSON, "at byte 0 of 0", TEXT(""));
    EACH_STATUS_INPUT(ATLOCK_INVALID_JSON, "at byte 12 of 13", TEXT("{\"Projects\":x"));

    const char *not_locks[] = {
        "7", "null", "[]", "{}", "\"text\"", "{\"Project\":{}}", "{\"Project\":null,\"Pull\":{\"Num\":1},\"Workspace\":\"\"}",
        "{\"Project\":{\"RepoFullName\":\"\",\"Path\":\".\"},\"Pull\":{\"Num\":1},\"Workspace\":\"default\"}",
        "{\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"},\"Pull\":{\"Num\":\"1\"},\"Workspace\":\"default\"}",
        "{\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"},\"Pull\":{\"Num\":9223372036854775808},\"Workspace\":\"default\"}",
    };
    for (size_t i = 0; i < sizeof not_locks / sizeof *not_locks; i++) {
        REFUSED(ATLOCK_INVALID_JSON, "not a lock", atlock_try_lock(handle, TEXT(not_locks[i]), OUT, error));
    }
    const char *not_targets[] = {"null", "7", "{}", "{\"Key\":7}", "{\"Workspace\":\"default\"}",
                                 "{\"Key\":\"a/b/c/d/\",\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"}}"};
    for (size_t i = 0; i < sizeof not_targets / sizeof *not_targets; i++) {
        REFUSED(ATLOCK_INVALID_JSON, "", atlock_get_lock(handle, TEXT(not_targets[i]), OUT, error));
        REFUSED(ATLOCK_INVALID_JSON, "", atlock_discard(handle, TEXT(not_targets[i]), OUT, error));
    }
}

/* A text of `len` bytes: `head`, then as many `filler` as needed, then `tail`. */
static char *filled(const char *head, char filler, const char *tail, size_t len) {
    char *text = malloc(len + 1);
    CHECK(text != NULL);
    memset(text, filler, len);
    memcpy(text, head, strlen(head));
    memcpy(text + len - strlen(tail), tail, strlen(tail) + 1);
    return text;
}

static void nesting_does_not_overflow_the_stack(void) {
    char *deep = filled("", '[', "", 500000);
    EACH_JSON_INPUT(ATLOCK_INVALID_JSON, "at byte", TEXT(deep));
    EACH_STATUS_INPUT(ATLOCK_INVALID_JSON, "at byte", TEXT(deep));
    REFUSED(ATLOCK_INVALID_CONFIG, "", atlock_open(TEXT(deep), NULL, &outputs.handle, error));
    free(deep);
}

static void limits(void) {
    const char *head = "{\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"},\"Pull\":{\"Num\":1},\"Workspace\":\"big\",\"Fill\":\"";
    char *largest = filled(head, 'x', "\"}", ATLOCK_MAX_LOCK_BYTES), *larger = filled(head, 'x', "\"}", ATLOCK_MAX_LOCK_BYTES + 1);
    take(handle, largest);
    ANSWERS(largest, atlock_unlock(handle, TEXT(largest), out, error));
    EACH_JSON_INPUT(ATLOCK_TOO_LARGE, "of 1048577 bytes is over the limit of 1048576", TEXT(larger));
    free(largest);
    free(larger);

    char *long_key = filled("", 'k', "", ATLOCK_MAX_KEY_BYTES + 1);
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_unlock_by_pull(handle, TEXT(long_key), 1, OUT, SPANS, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_lock_command(handle, TEXT(long_key), TEXT("{}"), OUT, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_unlock_command(handle, TEXT(long_key), OUT, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_check_command_lock(handle, TEXT(long_key), OUT, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_get_pull_status(handle, TEXT(long_key), OUT, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384",
            atlock_swap_pull_status(handle, TEXT(long_key), ATLOCK_EXPECT_ANY, NOTHING, NOTHING, &outputs.swapped, OUT, error));
    free(long_key);
    char *long_repo = filled("{\"Project\":{\"Path\":\".\",\"RepoFullName\":\"", 'r', "\"},\"Pull\":{\"Num\":1},\"Workspace\":\"w\"}",
                             ATLOCK_MAX_KEY_BYTES + 200);
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_try_lock(handle, TEXT(long_repo), OUT, error));
    REFUSED(ATLOCK_TOO_LARGE, "limit of 16384", atlock_get_lock(handle, TEXT(long_repo), OUT, error));
    free(long_repo);

    char *status = filled("\"", 's', "\"", ATLOCK_MAX_PULL_STATUS_BYTES + 1);
    EACH_STATUS_INPUT(ATLOCK_TOO_LARGE, "limit of 16777216", TEXT(status));
    free(status);
}

static void numbers_out_of_range(void) {
    REFUSED(ATLOCK_INVALID_ARGUMENT, "expect is 3",
            atlock_swap_pull_status(handle, KEY, 3, NOTHING, NOTHING, &outputs.swapped, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "expect is 4294967295",
            atlock_swap_pull_status(handle, KEY, UINT32_MAX, NOTHING, TEXT("{}"), &outputs.swapped, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "name is empty", atlock_lock_command(handle, NOTHING, TEXT("{}"), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "name is empty", atlock_unlock_command(handle, TEXT(""), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "name is empty", atlock_check_command_lock(handle, NOTHING, OUT, error));
}

/* Extremes that are allowed: no place for an error, negative pulls, empty names. */
static void allowed(void) {
    atlock_buffer out;
    CHECK(atlock_try_lock(handle, LOCK, &out, NULL) == ATLOCK_OK);
    atlock_buffer_free(&out);
    CHECK(atlock_unlock_by_pull(handle, NOTHING, INT64_MIN, &out, NULL, NULL) == ATLOCK_OK);
    atlock_buffer_free(&out);
    CHECK(atlock_get_pull_status(handle, NOTHING, &out, NULL) == ATLOCK_OK);
    CHECK(out.len == 0);
    atlock_buffer_free(&out);
    CHECK(atlock_list(handle, &out, NULL, NULL) == ATLOCK_OK);
    CHECK(contains(&out, lock_json("acme/infra", ".", 1)));
    atlock_buffer_free(&out);
    CHECK(atlock_unlock(handle, LOCK, &out, NULL) == ATLOCK_OK);
    atlock_buffer_free(&out);
}

int main(void) {
    handle = open_folder("locks");
    null_handle();
    null_output();
    impossible_inputs();
    wrong_utf8();
    bad_json();
    nesting_does_not_overflow_the_stack();
    limits();
    numbers_out_of_range();
    allowed();

    /* None of it left anything behind. */
    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_list(handle, out, NULL, error));
    atlock_free(handle);
    return finish("bad_input");
}
