/* A child that was forked after a store was opened has none of the library's threads: everything is refused there, and the parent goes on. */
#include "check.h"

#define REFUSED "was forked by process"
#define LOCK lock_json("acme/infra", ".", 1)

static atlock *handle;
static atlock_shadow *shadow;

/* Without a search for leaks: what the parent's threads held is nobody's here. */
static void leave(void) {
    fflush(NULL);
    _exit(0);
}

static void each_call_is_refused(void) {
    atlock_buffer out;
    poison(&out, sizeof out);
    FAILS(ATLOCK_FORKED, REFUSED, atlock_try_lock(handle, TEXT(LOCK), &out, error));
    FAILS(ATLOCK_FORKED, REFUSED, atlock_list(handle, &out, NULL, error));
    FAILS(ATLOCK_FORKED, REFUSED, atlock_list_locks(handle, &out, error));
    FAILS(ATLOCK_FORKED, REFUSED, atlock_status(handle, &out, error));
    FAILS(ATLOCK_FORKED, REFUSED, atlock_shadow_status(shadow, &out, error));
    CHECK(is_poisoned(&out, sizeof out));
    uint64_t number;
    FAILS(ATLOCK_FORKED, REFUSED, atlock_shadow_begin(shadow, TEXT("{\"operation\":\"list\"}"), &number, error));

    /* Closing and freeing here would end the parent's store. */
    FAILS(ATLOCK_FORKED, REFUSED, atlock_close(handle, error));
    atlock_free(handle);
    atlock_shadow_free(shadow);

    char *answer = list();
    CHECK(strstr(answer, "{\"error\":{\"code\":44,") == answer && strstr(answer, REFUSED) != NULL);
    atlock_string_free(answer);

    /* What needs no store works: errors, too, have to be read. */
    CHECK(strcmp(atlock_code_name(ATLOCK_FORKED), "forked") == 0);
    leave();
}

/* The threads that would serve it are the parent's. */
static void no_store_is_opened(void) {
    atlock *other;
    poison(&other, sizeof other);
    FAILS(ATLOCK_FORKED, REFUSED,
          atlock_open(TEXT("{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"other\"}}"), NULL, &other, error));
    CHECK(is_poisoned(&other, sizeof other));
    CHECK(access("other", F_OK) != 0);
    leave();
}

static void everything_works(void) {
    atlock *own = open_folder("before");
    take(own, LOCK);
    atlock_free(own);
}

int main(void) {
    /* Before the first store of this process, a child is a process like any other. */
    CHECK(run_in_child(everything_works) == 0);

    handle = open_folder("locks");
    take(handle, LOCK);
    SUCCEEDS(atlock_shadow_open(TEXT("{\"locking\":{\"shadow\":{\"store\":\"sled\",\"data_dir\":\"shadow\"}}}"), 0,
                                &shadow, error));
    CHECK(run_in_child(each_call_is_refused) == 0);
    CHECK(run_in_child(no_store_is_opened) == 0);

    ANSWERS(LOCK, atlock_unlock(handle, TEXT(LOCK), out, error));
    take(handle, LOCK);
    atlock_shadow_free(shadow);
    SUCCEEDS(atlock_close(handle, error));
    atlock_free(handle);
    handle = open_folder("locks");
    ANSWERS(LOCK, atlock_get_lock(handle, TEXT(LOCK), out, error));
    atlock_free(handle);
    return finish("forked");
}
