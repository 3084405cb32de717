/* A store that the program brings along, behind atlock_host_store. */
#include "memory_store.h"

#define BOLTDB TEXT("{\"locking\":{\"backend\":\"boltdb\"}}")

static memory_store store;

static atlock *open_host(void) {
    atlock_host_store callbacks = memory_store_callbacks(&store);
    atlock *handle;
    SUCCEEDS(atlock_open(BOLTDB, &callbacks, &handle, error));
    memset(&callbacks, POISON, sizeof callbacks); /* the library has its own copy */
    return handle;
}

static void every_operation(void) {
    atlock *handle = open_host();
    const char *lock = lock_json("acme/infra", ".", 1);
    atlock_buffer out;
    SUCCEEDS(atlock_ping(handle, error));
    take(handle, lock);
    CHECK(!contains(&(atlock_buffer){(uint8_t *)store.entries->value, strlen(store.entries->value), 0}, "\\"));
    SUCCEEDS(atlock_try_lock(handle, TEXT(lock), &out, error));
    CHECK(starts_with(&out, "{\"acquired\":false,\"lock\":") && contains(&out, lock));
    atlock_buffer_free(&out);
    ANSWERS(lock, atlock_get_lock(handle, TEXT(lock), out, error));
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 2, out, error));
    ANSWERS(lock, atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 1, out, error));
    ANSWERS("null", atlock_unlock(handle, TEXT(lock), out, error));

    take(handle, lock);
    ANSWERS(lock, atlock_discard(handle, TEXT("{\"Key\":\"acme/infra/./default/\"}"), out, error));
    ANSWERS("null", atlock_discard(handle, TEXT("{\"Key\":\"acme/infra/./default/\"}"), out, error));

    take(handle, lock);
    take(handle, lock_json("acme/infra2", ".", 1));
    atlock_spans spans;
    SUCCEEDS(atlock_list(handle, &out, &spans, error));
    CHECK(spans.len == 2);
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
    SUCCEEDS(atlock_unlock_by_pull(handle, TEXT("acme/infra"), 1, &out, &spans, error));
    CHECK(spans.len == 1 && contains(&out, lock_json("acme/infra", ".", 1)));
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
    ANSWERS(lock_json("acme/infra2", ".", 1), atlock_unlock(handle, TEXT(lock_json("acme/infra2", ".", 1)), out, error));

    SUCCEEDS(atlock_lock_command(handle, TEXT("apply"), TEXT("{\"x\":1}"), &out, error));
    atlock_buffer_free(&out);
    ANSWERS("{\"x\":1}", atlock_check_command_lock(handle, TEXT("apply"), out, error));
    ANSWERS("{\"x\":1}", atlock_unlock_command(handle, TEXT("apply"), out, error));
    ANSWERS("null", atlock_unlock_command(handle, TEXT("apply"), out, error));

    int32_t swapped;
    SUCCEEDS(atlock_swap_pull_status(handle, TEXT("h::r::1"), ATLOCK_EXPECT_ABSENT, NULL, 0, TEXT("{\"s\":1}"), &swapped, &out, error));
    CHECK(swapped == 1 && out.len == 0);
    SUCCEEDS(atlock_swap_pull_status(handle, TEXT("h::r::1"), ATLOCK_EXPECT_ABSENT, NULL, 0, TEXT("{\"s\":2}"), &swapped, &out, error));
    CHECK(swapped == 0 && equals(&out, "{\"s\":1}"));
    atlock_buffer_free(&out);
    SUCCEEDS(atlock_swap_pull_status(handle, TEXT("h::r::1"), ATLOCK_EXPECT_BYTES, TEXT("{\"s\":1}"), TEXT("{\"s\":2}"), &swapped, &out, error));
    CHECK(swapped == 1);
    ANSWERS("{\"s\":2}", atlock_get_pull_status(handle, TEXT("h::r::1"), out, error));
    SUCCEEDS(atlock_swap_pull_status(handle, TEXT("h::r::1"), ATLOCK_EXPECT_ANY, NULL, 0, NULL, 0, &swapped, &out, error));
    CHECK(swapped == 1);
    ANSWERS("", atlock_get_pull_status(handle, TEXT("h::r::1"), out, error));

    CHECK(store.released == 0);
    atlock_free(handle);
    CHECK(store.released == 1);
}

static void its_errors_pass_through(void) {
    atlock *handle = open_host();
    take(handle, lock_json("acme/infra", ".", 1));
    store.failure = "the disk is \xe2\x98\x83 frozen";
    atlock_buffer out = poisoned_buffer();
    FAILS(ATLOCK_HOST_STORE, "the disk is \xe2\x98\x83 frozen",
          atlock_try_lock(handle, TEXT(lock_json("acme/infra", ".", 1)), &out, error));
    FAILS(ATLOCK_HOST_STORE, "status 42", atlock_list(handle, &out, NULL, error));
    FAILS(ATLOCK_HOST_STORE, "frozen", atlock_ping(handle, error));
    CHECK(is_poisoned(&out, sizeof out));
    SUCCEEDS(atlock_health(handle, &out, error));
    CHECK(contains(&out, "\"overall\":false,\"state\":\"unhealthy\"") && contains(&out, "frozen"));
    atlock_buffer_free(&out);

    store.failure = NULL;
    ANSWERS(lock_json("acme/infra", ".", 1), atlock_get_lock(handle, TEXT(lock_json("acme/infra", ".", 1)), out, error));
    atlock_free(handle);
}

/* Answers that a store must not give. */
static const char *bad_answer;

static int32_t bad_call(void *ctx, uint32_t op, const uint8_t *input, size_t input_len, atlock_buffer *output,
                        atlock_buffer *error) {
    (void)ctx, (void)op, (void)input, (void)input_len;
    atlock_buffer_assign(error, TEXT("an error text beside success"));
    if (bad_answer != NULL) atlock_buffer_assign(output, TEXT(bad_answer));
    return 0;
}

static void bad_answers_are_refused(void) {
    atlock_host_store callbacks = {ATLOCK_HOST_STORE_ABI_VERSION, NULL, bad_call, NULL}; /* release may be null */
    atlock *handle;
    SUCCEEDS(atlock_open(BOLTDB, &callbacks, &handle, error));
    const char *lock = lock_json("acme/infra", ".", 1);
    const char *answers[] = {NULL, "", "x", "{", "[", "\xff", "{\"granted\":1}", "{\"granted\":false}"};
    atlock_buffer out = poisoned_buffer();
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        bad_answer = answers[i];
        FAILS(ATLOCK_PROTOCOL, "host store", atlock_try_lock(handle, TEXT(lock), &out, error));
    }
    bad_answer = "{]";
    FAILS(ATLOCK_PROTOCOL, "op 4", atlock_get_lock(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_PROTOCOL, "op 2", atlock_unlock(handle, TEXT(lock), &out, error));
    FAILS(ATLOCK_PROTOCOL, "op 5", atlock_list(handle, &out, NULL, error));

    /* A value that is no lock: the lock is not free, and the others are still listed. */
    bad_answer = "{\"granted\":false,\"value\":[1]}";
    FAILS(ATLOCK_ENTRY_UNREADABLE, "stays taken", atlock_try_lock(handle, TEXT(lock), &out, error));
    bad_answer = "{\"not\":\"a lock\"}";
    FAILS(ATLOCK_ENTRY_UNREADABLE, "stays taken", atlock_get_lock(handle, TEXT(lock), &out, error));
    CHECK(is_poisoned(&out, sizeof out));

    char listed[2048];
    snprintf(listed, sizeof listed, "[7,%s]", lock);
    bad_answer = listed;
    atlock_spans spans;
    SUCCEEDS(atlock_list(handle, &out, &spans, error));
    CHECK(spans.len == 1 && contains(&out, lock) && contains(&out, "\"unreadable\":[{"));
    atlock_spans_free(&spans);
    atlock_buffer_free(&out);
    atlock_free(handle);
}

/* `release` is called once, whatever opening failed for. */
static void a_failed_open_releases_once(void) {
    atlock *handle;
    poison(&handle, sizeof handle);
    atlock_host_store callbacks = memory_store_callbacks(&store);
    callbacks.abi_version = ATLOCK_HOST_STORE_ABI_VERSION + 1;
    FAILS(ATLOCK_UNSUPPORTED, "abi_version is 2", atlock_open(BOLTDB, &callbacks, &handle, error));
    CHECK(store.released == 1);

    callbacks = memory_store_callbacks(&store);
    callbacks.call = NULL;
    FAILS(ATLOCK_INVALID_ARGUMENT, "call is null", atlock_open(BOLTDB, &callbacks, &handle, error));
    CHECK(store.released == 1);

    callbacks = memory_store_callbacks(&store);
    FAILS(ATLOCK_INVALID_CONFIG, "unknown key", atlock_open(TEXT("{\"x\":1}"), &callbacks, &handle, error));
    CHECK(store.released == 1);

    callbacks = memory_store_callbacks(&store);
    FAILS(ATLOCK_INVALID_ARGUMENT, "not UTF-8", atlock_open(TEXT("\xff"), &callbacks, &handle, error));
    CHECK(store.released == 1);

    callbacks = memory_store_callbacks(&store);
    FAILS(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_open(BOLTDB, &callbacks, NULL, error));
    CHECK(store.released == 1);
    CHECK(is_poisoned(&handle, sizeof handle));
    CHECK(store.calls == 0);
}

/* It is asked once whether it has locks, which the embedded store would not know. */
static void an_unused_host_store_is_released(void) {
    atlock_host_store callbacks = memory_store_callbacks(&store);
    atlock *handle;
    SUCCEEDS(atlock_open(TEXT("locking: {backend: sled, data_dir: locks}"), &callbacks, &handle, error));
    CHECK(store.calls == 1);
    take(handle, lock_json("acme/infra", ".", 1));
    CHECK(store.calls == 1);
    atlock_free(handle);
    CHECK(store.released == 1);
}

static void no_call_after_close(void) {
    atlock *handle = open_host();
    SUCCEEDS(atlock_close(handle, error));
    int calls = store.calls;
    FAILS(ATLOCK_CLOSED, "closed", atlock_ping(handle, error));
    CHECK(store.calls == calls && store.released <= 1);
    atlock_free(handle);
    CHECK(store.released == 1);
}

/* What one call of the mirroring operations answers. */
static atlock_buffer called(const atlock_host_store *callbacks, uint32_t op, const char *input) {
    atlock_buffer output = ATLOCK_BUFFER_INIT, failure = ATLOCK_BUFFER_INIT;
    CHECK(callbacks->call(callbacks->ctx, op, TEXT(input), &output, &failure) == 0 && failure.data == NULL);
    return output;
}

/* Strict mode does not call them, so the test does: what locks were taken is dumped, and what is applied is held. */
static void a_mirror_dumps_and_applies(void) {
    atlock *handle = open_host();
    const atlock_host_store callbacks = {ATLOCK_HOST_STORE_ABI_VERSION, &store, memory_store_call, NULL};
    atlock_buffer out = called(&callbacks, ATLOCK_OP_DUMP, "{}");
    CHECK(equals(&out, "[]"));
    atlock_buffer_free(&out);

    SUCCEEDS(atlock_lock_command(handle, TEXT("apply"), TEXT("{\"x\":\"\\n\"}"), &out, error));
    atlock_buffer_free(&out);
    out = called(&callbacks, ATLOCK_OP_DUMP, "{}");
    CHECK(equals(&out, "[{\"key\":{\"command\":\"apply\"},\"value\":\"{\\\"x\\\":\\\"\\\\n\\\"}\"}]"));
    atlock_buffer_free(&out);

    out = called(&callbacks, ATLOCK_OP_APPLY,
                 "{\"writes\":[{\"key\":{\"command\":\"apply\"},\"value\":null},"
                 "{\"key\":{\"command\":\"plan\"},\"value\":\"{\\\"y\\\":\\t[1,{}]}\"},"
                 "{\"key\":{\"status\":\"h::r::1\"},\"value\":\"{\\\"s\\\":\\u00011}\"}]}");
    atlock_buffer_free(&out);
    ANSWERS("null", atlock_check_command_lock(handle, TEXT("apply"), out, error));
    ANSWERS("{\"y\":\t[1,{}]}", atlock_check_command_lock(handle, TEXT("plan"), out, error));
    out = called(&callbacks, ATLOCK_OP_DUMP, "{}");
    CHECK(equals(&out, "[{\"key\":{\"status\":\"h::r::1\"},\"value\":\"{\\\"s\\\":\\u00011}\"},"
                       "{\"key\":{\"command\":\"plan\"},\"value\":\"{\\\"y\\\":\\u0009[1,{}]}\"}]"));
    atlock_buffer_free(&out);
    atlock_free(handle);
}

int main(void) {
    every_operation();
    its_errors_pass_through();
    bad_answers_are_refused();
    a_failed_open_releases_once();
    an_unused_host_store_is_released();
    no_call_after_close();
    a_mirror_dumps_and_applies();
    return finish("host_store");
}
