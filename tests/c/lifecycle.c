/* Opening, closing, freeing. */
#include "check.h"

static void boltdb_needs_a_host_store(void) {
    atlock *handle;
    poison(&handle, sizeof handle);
    const char *configs[] = {"", "{}", "{\"locking\":{\"backend\":\"boltdb\"}}"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        FAILS(ATLOCK_INVALID_CONFIG, "and none was passed in", atlock_open(TEXT(configs[i]), NULL, &handle, error));
        FAILS(ATLOCK_INVALID_CONFIG, "locking.backend: sled", atlock_open(TEXT(configs[i]), NULL, &handle, error));
    }
    CHECK(is_poisoned(&handle, sizeof handle));
}

static void wrong_settings_are_refused(void) {
    atlock *handle;
    poison(&handle, sizeof handle);
    FAILS(ATLOCK_INVALID_CONFIG, "unknown key \"bakend\"; did you mean \"backend\"?",
          atlock_open(TEXT("{\"locking\":{\"bakend\":\"sled\"}}"), NULL, &handle, error));
    FAILS(ATLOCK_INVALID_CONFIG, "locking.data_dir is missing",
          atlock_open(TEXT("locking: {backend: sled}"), NULL, &handle, error));
    FAILS(ATLOCK_INVALID_CONFIG, "", atlock_open(TEXT("{"), NULL, &handle, error));
    CHECK(is_poisoned(&handle, sizeof handle));
}

static void closed_handles_answer_closed(void) {
    atlock *handle = open_folder("closed");
    take(handle, lock_json("acme/infra", ".", 1));
    SUCCEEDS(atlock_close(handle, error));
    SUCCEEDS(atlock_close(handle, error));
    CHECK(atlock_close(handle, NULL) == ATLOCK_OK);

    atlock_buffer out = poisoned_buffer();
    atlock_spans spans;
    poison(&spans, sizeof spans);
    int32_t swapped = 77;
    const char *lock = lock_json("acme/infra", ".", 1);
    FAILS(ATLOCK_CLOSED, "closed", atlock_try_lock(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_unlock(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 1, &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_get_lock(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_discard(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_list(handle, &out, &spans, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_unlock_by_pull(handle, TEXT("acme/infra"), 1, &out, &spans, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_lock_command(handle, TEXT("apply"), TEXT("{}"), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_unlock_command(handle, TEXT("apply"), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_check_command_lock(handle, TEXT("apply"), &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_get_pull_status(handle, TEXT("h::r::1"), &out, error));
    FAILS(ATLOCK_CLOSED, "closed",
          atlock_swap_pull_status(handle, TEXT("h::r::1"), ATLOCK_EXPECT_ANY, NULL, 0, TEXT("{}"), &swapped, &out, error));
    FAILS(ATLOCK_CLOSED, "closed", atlock_ping(handle, error));
    CHECK(is_poisoned(&out, sizeof out) && is_poisoned(&spans, sizeof spans) && swapped == 77);

    /* These two ask no store, so they still tell. */
    SUCCEEDS(atlock_status(handle, &out, error));
    atlock_buffer_free(&out);
    SUCCEEDS(atlock_health(handle, &out, error));
    CHECK(contains(&out, "\"overall\":false,\"state\":\"unhealthy\"") && contains(&out, "closed"));
    atlock_buffer_free(&out);
    atlock_free(handle);
}

static void null_and_empty_are_harmless_to_free(void) {
    atlock_free(NULL);
    atlock_buffer_free(NULL);
    atlock_spans_free(NULL);
    atlock_string_free(NULL);
    atlock_buffer buffer = ATLOCK_BUFFER_INIT;
    atlock_buffer_free(&buffer);
    atlock_spans spans = ATLOCK_SPANS_INIT;
    atlock_spans_free(&spans);

    atlock_buffer_assign(NULL, TEXT("x"));
    atlock_buffer_assign(&buffer, TEXT("first"));
    atlock_buffer_assign(&buffer, TEXT("second"));
    CHECK(equals(&buffer, "second"));
    atlock_buffer_assign(&buffer, NULL, 0);
    CHECK(buffer.data == NULL && buffer.len == 0);
    atlock_buffer_assign(&buffer, TEXT("third"));
    atlock_buffer_free(&buffer);
    CHECK(buffer.data == NULL && buffer.len == 0);
    atlock_buffer_free(&buffer);
}

static void free_closes(void) {
    for (int i = 0; i < 5; i++) {
        atlock_free(open_folder("again"));
    }
}

static void handles_are_independent(void) {
    atlock *one = open_folder("one"), *two = open_folder("two");
    take(one, lock_json("acme/infra", ".", 1));
    take(two, lock_json("acme/infra", ".", 2));
    SUCCEEDS(atlock_close(one, error));
    SUCCEEDS(atlock_ping(two, error));
    atlock_free(one);
    atlock_free(two);
}

int main(void) {
    boltdb_needs_a_host_store();
    wrong_settings_are_refused();
    closed_handles_answer_closed();
    null_and_empty_are_harmless_to_free();
    free_closes();
    handles_are_independent();
    return finish("lifecycle");
}
