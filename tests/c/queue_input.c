/* What the functions of the queue refuse: each with a status and a text, and its outputs stay as they were. */
#include "check.h"

static atlock *handle;

static struct outputs {
    atlock_buffer out;
    uint64_t number;
} outputs;

/* As in bad_input.c. */
#define REFUSED(status, part, call)                         \
    do {                                                    \
        poison(&outputs, sizeof outputs);                   \
        FAILS(status, part, call);                          \
        atlock_buffer *error = NULL;                        \
        CHECK((call) == (status));                          \
        CHECK(is_poisoned(&outputs, sizeof outputs));       \
    } while (0)

#define OUT &outputs.out
#define NUMBER &outputs.number
#define NOTHING NULL, 0
#define LOCK TEXT(lock_json("acme/infra", "a", 1))
#define PULL "\"repo\":\"acme/infra\",\"pull\":{\"host\":\"\",\"num\":1}"

static uint64_t run;

/* Each function that takes JSON, with this text. */
#define EACH_JSON(status, part, INPUT)                                                      \
    REFUSED(status, part, atlock_lock(handle, INPUT, NOTHING, OUT, error));                 \
    REFUSED(status, part, atlock_lock_set(handle, INPUT, NOTHING, OUT, error));             \
    REFUSED(status, part, atlock_run_begin(handle, INPUT, NUMBER, error));                  \
    REFUSED(status, part, atlock_run_declare(handle, run, INPUT, error));                   \
    REFUSED(status, part, atlock_try_lock_in(handle, run, INPUT, OUT, error));              \
    REFUSED(status, part, atlock_position(handle, INPUT, NUMBER, error));                   \
    REFUSED(status, part, atlock_leave(handle, INPUT, NUMBER, error));                      \
    REFUSED(status, part, atlock_check(handle, INPUT, OUT, error))
/* Each that takes a text, and the options. */
#define EACH_TEXT(status, part, INPUT)                                                      \
    REFUSED(status, part, atlock_cancel(handle, INPUT, error));                             \
    REFUSED(status, part, atlock_queues(handle, INPUT, OUT, error))
#define EACH_OPTIONS(status, part, INPUT)                                                   \
    REFUSED(status, part, atlock_lock(handle, LOCK, INPUT, OUT, error));                    \
    REFUSED(status, part, atlock_lock_set(handle, TEXT("[]"), INPUT, OUT, error))

static void null_pointers(void) {
    atlock *opened = handle;
    handle = NULL;
    EACH_JSON(ATLOCK_INVALID_ARGUMENT, "the handle is null", NOTHING);
    EACH_TEXT(ATLOCK_INVALID_ARGUMENT, "the handle is null", NOTHING);
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_run_end(NULL, run, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_stats(NULL, OUT, error));
    handle = opened;
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_lock(handle, LOCK, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_lock_set(handle, TEXT("[]"), NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "run is null", atlock_run_begin(handle, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_try_lock_in(handle, run, LOCK, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_run_end(handle, run, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "position is null", atlock_position(handle, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "left is null", atlock_leave(handle, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_queues(handle, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_check(handle, NOTHING, NULL, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_stats(handle, NULL, error));
#define NULL_WITH_LENGTH NULL, 1
    EACH_JSON(ATLOCK_INVALID_ARGUMENT, "is null, but its length is 1", NULL_WITH_LENGTH);
    EACH_TEXT(ATLOCK_INVALID_ARGUMENT, "is null, but its length is 1", NULL_WITH_LENGTH);
    EACH_OPTIONS(ATLOCK_INVALID_ARGUMENT, "options is null, but its length is 1", NULL_WITH_LENGTH);
}

static void texts_and_json(void) {
    EACH_TEXT(ATLOCK_INVALID_ARGUMENT, "not UTF-8 at byte 2", TEXT("ab\xff"));
    EACH_JSON(ATLOCK_INVALID_JSON, "at byte", TEXT("{\"repo\":\"\xff\"}"));
    EACH_JSON(ATLOCK_INVALID_JSON, "at byte 0 of 0", NOTHING);
    EACH_JSON(ATLOCK_INVALID_JSON, "at byte", TEXT("7"));
    EACH_JSON(ATLOCK_INVALID_JSON, "", TEXT("{\"none\":1}"));
    EACH_OPTIONS(ATLOCK_INVALID_JSON, "unknown field `wait`", TEXT("{\"wait\":5}"));
    EACH_OPTIONS(ATLOCK_INVALID_JSON, "a priority is 0 to 3, or low", TEXT("{\"priority\":\"urgent\"}"));
    EACH_OPTIONS(ATLOCK_INVALID_JSON, "at byte", TEXT("{\"timeout_ms\":\"\xff\"}"));
    EACH_OPTIONS(ATLOCK_INVALID_ARGUMENT, "the priority 4 is none", TEXT("{\"priority\":4}"));
    EACH_OPTIONS(ATLOCK_INVALID_ARGUMENT, "a timeout of -1 ms is negative", TEXT("{\"timeout_ms\":-1}"));
    EACH_OPTIONS(ATLOCK_INVALID_ARGUMENT, "1 to 256 bytes", TEXT("{\"cancel\":\"\"}"));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "a timeout of 2h 1ms is over the 2h", atlock_lock(handle, LOCK, TEXT("{\"timeout_ms\":7200001}"), OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "1 to 256 bytes", atlock_cancel(handle, NOTHING, error));
}

static void what_cannot_be(void) {
    REFUSED(ATLOCK_NO_PULL, "pull 0", atlock_lock(handle, TEXT(lock_json("acme/infra", "a", 0)), NOTHING, OUT, error));
    REFUSED(ATLOCK_NO_PULL, "pull -3",
            atlock_run_begin(handle, TEXT("{\"repo\":\"a/b\",\"pull\":{\"host\":\"\",\"num\":-3},\"command\":\"plan\"}"), NUMBER, error));
    REFUSED(ATLOCK_INVALID_JSON, "unknown variant", atlock_run_begin(handle, TEXT("{" PULL ",\"command\":\"deploy\"}"), NUMBER, error));
    REFUSED(ATLOCK_INVALID_JSON, "invalid type", atlock_run_begin(handle, TEXT("{" PULL ",\"command\":\"plan\",\"labels\":[7]}"), NUMBER, error));
    REFUSED(ATLOCK_INVALID_JSON, "missing field", atlock_leave(handle, TEXT("{\"repo\":\"a/b\"}"), NUMBER, error));
    REFUSED(ATLOCK_NOT_QUEUED, "neither holds", atlock_position(handle, TEXT("{" PULL ",\"key\":\"acme/infra/a/default/\"}"), NUMBER, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "there is no run 77", atlock_run_declare(handle, 77, TEXT("[]"), error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "there is no run 77", atlock_try_lock_in(handle, 77, LOCK, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "there is no run 77", atlock_run_end(handle, 77, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "a set without a lock", atlock_lock_set(handle, TEXT("[]"), NOTHING, OUT, error));
    char two[2100];
    int len = snprintf(two, sizeof two, "[%s", lock_json("acme/infra", "a", 1));
    snprintf(two + len, sizeof two - (size_t)len, ",%s]", lock_json("acme/web", "a", 1));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "a set is of one pull", atlock_lock_set(handle, TEXT(two), NOTHING, OUT, error));
    snprintf(two + len, sizeof two - (size_t)len, ",%s]", lock_json("acme/infra", "a", 1));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "twice", atlock_lock_set(handle, TEXT(two), NOTHING, OUT, error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "twice", atlock_run_declare(handle, run, TEXT(two), error));
    REFUSED(ATLOCK_INVALID_ARGUMENT, "cannot take a lock for pull #2",
            atlock_try_lock_in(handle, run, TEXT(lock_json("acme/infra", "a", 2)), OUT, error));
}

static void without_a_queue(void) {
    atlock *opened = handle;
    handle = open_folder("other");
    REFUSED(ATLOCK_QUEUE_DISABLED, "there is no queue", atlock_run_begin(handle, TEXT("{" PULL ",\"command\":\"plan\"}"), NUMBER, error));
    REFUSED(ATLOCK_QUEUE_DISABLED, "there is no queue", atlock_leave(handle, TEXT("{" PULL "}"), NUMBER, error));
    REFUSED(ATLOCK_QUEUE_DISABLED, "there is no queue", atlock_queues(handle, NOTHING, OUT, error));
    char set[1100];
    snprintf(set, sizeof set, "[%s]", lock_json("acme/infra", "a", 1));
    REFUSED(ATLOCK_QUEUE_DISABLED, "there is no queue", atlock_lock_set(handle, TEXT(set), NOTHING, OUT, error));
    take(handle, lock_json("acme/infra", "a", 1));
    REFUSED(ATLOCK_QUEUE_DISABLED, "there is no queue",
            atlock_position(handle, TEXT("{\"repo\":\"acme/infra\",\"key\":\"acme/infra/a/default/\"}"), NUMBER, error));
    atlock_free(handle);
    handle = opened;
}

int main(void) {
    const char *config = "{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"locks\",\"enhanced\":{\"priority_queue\":{\"enabled\":true}}}}";
    SUCCEEDS(atlock_open(TEXT(config), NULL, &handle, error));
    SUCCEEDS(atlock_run_begin(handle, TEXT("{" PULL ",\"command\":\"plan\"}"), &run, error));
    null_pointers();
    texts_and_json();
    what_cannot_be();
    without_a_queue();

    /* None of it left anything behind. */
    ANSWERS("{\"released\":[],\"waiting\":{}}", atlock_run_end(handle, run, out, error));
    ANSWERS("{}", atlock_queues(handle, NOTHING, out, error));
    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_list(handle, out, NULL, error));
    atlock_free(handle);
    return finish("queue_input");
}
