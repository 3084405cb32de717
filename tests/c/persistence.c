/* The embedded store outlives its processes, and belongs to one at a time. */
#include "check.h"

#include <signal.h>
#include <sys/stat.h>

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

static int32_t has_store(const char *folder, atlock_buffer *error) {
    int32_t found = 7;
    int32_t status = atlock_has_local_store(TEXT(folder), &found, error);
    CHECK(status == ATLOCK_OK ? found == 0 || found == 1 : found == 7);
    return status == ATLOCK_OK ? found : -status;
}

/* Unknown is not absent: a folder that this user may not look at is an error, not a folder without a store. */
static void a_store_is_found_or_not_or_unknown(void) {
    atlock_buffer *none = NULL;
    CHECK(has_store("", none) == 0);
    CHECK(has_store("has-store", none) == 0);
    CHECK(has_store("has-store/below/that", none) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        atlock_free(open_folder("has-store"));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(has_store("has-store", none) == 1);
    CHECK(has_store("has-store/format.json", none) == 0);
    int32_t *nowhere = NULL;
    FAILS(ATLOCK_INVALID_ARGUMENT, "found is null", atlock_has_local_store(TEXT("has-store"), nowhere, error));

    /* An ordinary user, in a folder that everybody may pass through. */
    CHECK(chmod(".", 0711) == 0);
    CHECK(chmod("has-store", geteuid() == 0 ? 0700 : 0) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
        CHECK(has_store("none", none) == 0);
        int32_t found;
        FAILS(ATLOCK_STORE_NOT_WRITABLE, "has-store of locking.data_dir cannot be looked at: Permission denied",
              atlock_has_local_store(TEXT("has-store"), &found, error));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(chmod("has-store", 0700) == 0);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "other") == 0) {
        open_fails_busy();
        return 0;
    }
    /* Children before the first handle of this process, so that none inherits one. */
    a_store_is_found_or_not_or_unknown();
    locks_outlive_their_process();
    second_opener_is_told();
    another_process_is_told();
    return finish("persistence");
}
