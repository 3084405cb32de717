/* The embedded store outlives its processes, and belongs to one at a time. */
#include "check.h"

#include <signal.h>

#define FOLDER "locks"
#define CONFIG "{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"" FOLDER "\"}}"

static void second_opener_is_told(void) {
    atlock *first = open_folder(FOLDER), *second;
    poison(&second, sizeof second);
    FAILS(ATLOCK_STORE_BUSY, FOLDER, atlock_open(TEXT(CONFIG), NULL, &second, error));
    CHECK(is_poisoned(&second, sizeof second));
    SUCCEEDS(atlock_ping(first, error));

    /* Closing, not only freeing, hands the folder over. */
    SUCCEEDS(atlock_close(first, error));
    atlock_free(open_folder(FOLDER));
    atlock_free(first);
}

static void open_fails_busy(void) {
    atlock *handle;
    FAILS(ATLOCK_STORE_BUSY, FOLDER, atlock_open(TEXT(CONFIG), NULL, &handle, error));
}

/* This program anew, as "the other process": a child that shares this one's memory would be none. */
static void run_the_other_process(void) {
    execl("/proc/self/exe", "persistence", "other", (char *)NULL);
    fail("execl", __FILE__, __LINE__);
}

static void another_process_is_told(void) {
    atlock *mine = open_folder(FOLDER);
    CHECK(run_in_child(run_the_other_process) == 0);
    atlock_free(mine);
}

static void take_and_leave(void) {
    atlock *handle = open_folder(FOLDER);
    take(handle, lock_json("acme/infra", "left", 1));
    atlock_free(handle);
}

static void take_and_be_killed(void) {
    atlock *handle = open_folder(FOLDER);
    take(handle, lock_json("acme/infra", "killed", 2));
    ANSWERS("null", atlock_unlock(handle, TEXT(lock_json("acme/infra", "free", 2)), out, error));
    kill(getpid(), SIGKILL);
}

static void locks_outlive_their_process(void) {
    CHECK(run_in_child(take_and_leave) == 0);
    CHECK(run_in_child(take_and_be_killed) == -SIGKILL);

    atlock *handle = open_folder(FOLDER);
    ANSWERS(lock_json("acme/infra", "left", 1), atlock_get_lock(handle, TEXT(lock_json("acme/infra", "left", 9)), out, error));
    ANSWERS(lock_json("acme/infra", "killed", 2), atlock_unlock(handle, TEXT(lock_json("acme/infra", "killed", 9)), out, error));
    atlock_free(handle);

    /* And so does a release. */
    handle = open_folder(FOLDER);
    ANSWERS("null", atlock_get_lock(handle, TEXT(lock_json("acme/infra", "killed", 9)), out, error));
    atlock_free(handle);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "other") == 0) {
        open_fails_busy();
        return 0;
    }
    /* Children before the first handle of this process, so that none inherits one. */
    locks_outlive_their_process();
    second_opener_is_told();
    another_process_is_told();
    return finish("persistence");
}
