/* Waiting in threads, being cancelled, runs and places, as a C program sees them. */
#include "check.h"
#include "json.h"

#include <pthread.h>
#include <time.h>

static atlock *handle;

#define KEY "acme/infra/a/default/"
#define HOST "\"host\":\"\""

static atlock *open_queue(const char *folder) {
    char config[512];
    snprintf(config, sizeof config,
             "{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"%s\",\"enhanced\":{\"priority_queue\":{\"enabled\":true}}}}", folder);
    atlock *opened = NULL;
    SUCCEEDS(atlock_open(TEXT(config), NULL, &opened, error));
    return opened;
}

/* A caller who waits, on a thread of its own. */
typedef struct waiter {
    pthread_t thread;
    int pull;
    const char *options;
    bool whole; /* asks for a set of a and b */
    int32_t status;
    atlock_buffer out;
} waiter;

static void *wait_for_lock(void *argument) {
    waiter *self = argument;
    char locks[2100];
    if (self->whole) {
        int len = snprintf(locks, sizeof locks, "[%s", lock_json("acme/infra", "a", self->pull));
        snprintf(locks + len, sizeof locks - (size_t)len, ",%s]", lock_json("acme/infra", "b", self->pull));
        self->status = atlock_lock_set(handle, TEXT(locks), TEXT(self->options), &self->out, NULL);
    } else {
        snprintf(locks, sizeof locks, "%s", lock_json("acme/infra", "a", self->pull));
        self->status = atlock_lock(handle, TEXT(locks), TEXT(self->options), &self->out, NULL);
    }
    return NULL;
}

static void begin(waiter *self) {
    CHECK(pthread_create(&self->thread, NULL, wait_for_lock, self) == 0);
}

static void end(waiter *self) {
    CHECK(pthread_join(self->thread, NULL) == 0);
    CHECK(self->status == ATLOCK_OK);
}

/* A member of an answer. */
static slice of(const atlock_buffer *answer, const char *name) {
    return member((slice){(const char *)answer->data, answer->len}, name);
}

static int32_t position_of(int pull, uint64_t *position) {
    char request[128];
    snprintf(request, sizeof request, "{\"repo\":\"acme/infra\",\"key\":\"" KEY "\",\"pull\":{" HOST ",\"num\":%d}}", pull);
    return atlock_position(handle, TEXT(request), position, NULL);
}

static void until_position_is(int pull, uint64_t wanted) {
    uint64_t position = UINT64_MAX;
    for (int i = 0; i < 20000; i++) {
        if (position_of(pull, &position) == ATLOCK_OK && position == wanted) return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fail("the place is another", __FILE__, __LINE__);
}

static void nobody_waits(void) {
    ANSWERS("{}", atlock_queues(handle, NULL, 0, out, error));
}

static void a_wait_is_cancelled(void) {
    waiter two = {.pull = 2, .options = "{\"priority\":\"high\",\"cancel\":\"two\"}"};
    begin(&two);
    until_position_is(2, 1);
    atlock_buffer out;
    SUCCEEDS(atlock_queues(handle, TEXT("acme/infra"), &out, error));
    CHECK(contains(&out, "\"priority\":\"high\"") && contains(&out, "\"" KEY "\":{\"position\":1,\"reserved_until\":null}"));
    atlock_buffer_free(&out);
    SUCCEEDS(atlock_cancel(handle, TEXT("two"), error));
    end(&two);
    CHECK(is_text(of(&two.out, "acquired"), "false") && is_text(of(&two.out, "why"), "\"cancelled\""));
    slice queue = of(&two.out, "queue");
    CHECK(is_text(member(queue, "position"), "1") && is_text(member(queue, "ahead"), "[]") && is_text(member(queue, "why"), "\"held\""));
    CHECK(is_text(member(member(of(&two.out, "lock"), "Pull"), "Num"), "1"));
    atlock_buffer_free(&two.out);
    uint64_t position;
    CHECK(position_of(2, &position) == ATLOCK_NOT_QUEUED);
    nobody_waits();

    /* Cancelled before it begins. */
    SUCCEEDS(atlock_cancel(handle, TEXT("early"), error));
    waiter early = {.pull = 2, .options = "{\"cancel\":\"early\"}"};
    begin(&early);
    end(&early);
    CHECK(is_text(of(&early.out, "why"), "\"cancelled\""));
    atlock_buffer_free(&early.out);
    nobody_waits();
}

static void a_wait_ends(void) {
    waiter once = {.pull = 2, .options = "{\"timeout_ms\":0}"}, brief = {.pull = 2, .options = "{\"timeout_ms\":20}"};
    begin(&once);
    begin(&brief);
    end(&once);
    end(&brief);
    CHECK(is_text(of(&once.out, "why"), "\"timeout\"") && is_text(of(&brief.out, "why"), "\"timeout\""));
    atlock_buffer_free(&once.out);
    atlock_buffer_free(&brief.out);
    nobody_waits();

    waiter left = {.pull = 2, .options = ""};
    begin(&left);
    until_position_is(2, 1);
    uint64_t keys = 0;
    SUCCEEDS(atlock_leave(handle, TEXT("{\"repo\":\"acme/infra\",\"pull\":{" HOST ",\"num\":2}}"), &keys, error));
    end(&left);
    CHECK(keys == 1 && is_text(of(&left.out, "why"), "\"left\""));
    atlock_buffer_free(&left.out);
}

static void who_waits_has_the_lock(void) {
    waiter two = {.pull = 2, .options = "{\"priority\":0}"}, three = {.pull = 3, .options = "{\"priority\":3,\"timeout_ms\":60000}"};
    begin(&two);
    until_position_is(2, 1);
    begin(&three);
    until_position_is(3, 1);
    until_position_is(2, 2);
    const char *lock = lock_json("acme/infra", "a", 1);
    ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    end(&three);
    CHECK(is_text(of(&three.out, "acquired"), "true") && is_text(member(member(of(&three.out, "lock"), "Pull"), "Num"), "3"));
    slice token = of(&three.out, "token");
    char request[256];
    const char *form = "{\"repo\":\"acme/infra\",\"key\":\"" KEY "\",\"pull\":{" HOST ",\"num\":%d},\"token\":%.*s}";
    snprintf(request, sizeof request, form, 3, (int)token.len, token.start);
    atlock_buffer out;
    SUCCEEDS(atlock_check(handle, TEXT(request), &out, error));
    CHECK(is_text(of(&out, "holds"), "true") && same(of(&out, "token"), token));
    atlock_buffer_free(&out);
    snprintf(request, sizeof request, form, 2, (int)token.len, token.start);
    SUCCEEDS(atlock_check(handle, TEXT(request), &out, error));
    CHECK(is_text(of(&out, "holds"), "false"));
    atlock_buffer_free(&out);
    atlock_buffer_free(&three.out);

    lock = lock_json("acme/infra", "a", 3);
    ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    end(&two);
    CHECK(is_text(of(&two.out, "acquired"), "true"));
    atlock_buffer_free(&two.out);
    nobody_waits();
}

/* Pull 2 holds a. */
static void a_run_keeps_its_lock(void) {
    const char *request = "{\"repo\":\"acme/infra\",\"pull\":{" HOST ",\"num\":2},\"command\":\"plan\"}", *lock = lock_json("acme/infra", "a", 2);
    uint64_t run = 0;
    atlock_buffer out;
    SUCCEEDS(atlock_run_begin(handle, TEXT(request), &run, error));
    ANSWERS(lock, atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 2, out, error));
    ANSWERS(lock, atlock_get_lock(handle, TEXT(lock), out, error));
    SUCCEEDS(atlock_try_lock_in(handle, run, TEXT(lock), &out, error));
    CHECK(starts_with(&out, "{\"acquired\":true,\"token\":") && contains(&out, lock));
    atlock_buffer_free(&out);
    ANSWERS("{\"released\":[],\"waiting\":{}}", atlock_run_end(handle, run, out, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "there is no run", atlock_run_end(handle, run, &out, error));

    SUCCEEDS(atlock_run_begin(handle, TEXT(request), &run, error));
    SUCCEEDS(atlock_run_declare(handle, run, TEXT("[]"), error));
    ANSWERS(lock, atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 2, out, error));
    ANSWERS("{\"released\":[\"" KEY "\"],\"waiting\":{}}", atlock_run_end(handle, run, out, error));
    ANSWERS("null", atlock_get_lock(handle, TEXT(lock), out, error));
}

static void a_set_is_whole(void) {
    take(handle, lock_json("acme/infra", "b", 1));
    waiter two = {.pull = 2, .options = "{\"timeout_ms\":30}", .whole = true};
    begin(&two);
    end(&two);
    CHECK(is_text(of(&two.out, "why"), "\"timeout\"") && is_text(member(of(&two.out, "queue"), "why"), "\"set\""));
    CHECK(is_text(member(member(of(&two.out, "queue"), "blocker"), "key"), "\"acme/infra/b/default/\""));
    atlock_buffer_free(&two.out);
    ANSWERS("null", atlock_get_lock(handle, TEXT("{\"Key\":\"" KEY "\"}"), out, error));
    const char *lock = lock_json("acme/infra", "b", 1);
    ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    waiter three = {.pull = 3, .options = "", .whole = true};
    begin(&three);
    end(&three);
    CHECK(is_text(of(&three.out, "acquired"), "true"));
    slice locks = of(&three.out, "locks"), first = next_element(locks, (slice){NULL, 0}), second = next_element(locks, first);
    CHECK(is_text(member(member(first, "lock"), "Workspace"), "\"default\"") && member(second, "token").len > 1);
    atlock_buffer_free(&three.out);
    atlock_buffer out;
    SUCCEEDS(atlock_stats(handle, &out, error));
    CHECK(is_text(of(&out, "active_locks"), "2") && is_text(of(&out, "queue_depth"), "0") && is_text(of(&out, "health_score"), "100"));
    CHECK(of(&out, "total_requests").len > 0 && of(&out, "average_hold_ms").len > 0 && of(&out, "last_updated").len > 10);
    atlock_buffer_free(&out);
}

static void closing_ends_waits(void) {
    waiter four = {.pull = 4, .options = ""};
    begin(&four);
    until_position_is(4, 1);
    SUCCEEDS(atlock_close(handle, error));
    CHECK(pthread_join(four.thread, NULL) == 0);
    CHECK(four.status == ATLOCK_CLOSED);
}

int main(void) {
    handle = open_queue("locks");
    take(handle, lock_json("acme/infra", "a", 1));
    a_wait_is_cancelled();
    a_wait_ends();
    who_waits_has_the_lock();
    a_run_keeps_its_lock();
    a_set_is_whole();
    closing_ends_waits();
    atlock_free(handle);
    return finish("queue");
}
