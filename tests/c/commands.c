/* The global lock of a command. */
#include "check.h"

#define HELD "{\"LockMetadata\":{\"UnixTime\":1700000000},\"CommandName\":0, \"Later\":true}"
#define OTHER "{\"LockMetadata\":{\"UnixTime\":1800000000},\"CommandName\":0}"

int main(void) {
    atlock *handle = open_folder("locks");
    atlock_buffer out;

    ANSWERS("null", atlock_check_command_lock(handle, TEXT("apply"), out, error));
    ANSWERS("null", atlock_unlock_command(handle, TEXT("apply"), out, error));

    SUCCEEDS(atlock_lock_command(handle, TEXT("apply"), TEXT(HELD), &out, error));
    CHECK(starts_with(&out, "{\"acquired\":true,\"token\":"));
    atlock_buffer_free(&out);
    ANSWERS("{\"acquired\":false,\"lock\":" HELD "}", atlock_lock_command(handle, TEXT("apply"), TEXT(OTHER), out, error));
    ANSWERS(HELD, atlock_check_command_lock(handle, TEXT("apply"), out, error));

    /* Another command is another lock, and a project's lock of a like name is none of its business. */
    ANSWERS("null", atlock_check_command_lock(handle, TEXT("plan"), out, error));
    ANSWERS("null", atlock_check_command_lock(handle, TEXT("appl"), out, error));
    take(handle, lock_json("apply", ".", 1));
    ANSWERS(HELD, atlock_unlock_command(handle, TEXT("apply"), out, error));
    ANSWERS("null", atlock_unlock_command(handle, TEXT("apply"), out, error));
    ANSWERS(lock_json("apply", ".", 1), atlock_get_lock(handle, TEXT(lock_json("apply", ".", 1)), out, error));

    atlock_free(handle);
    return finish("commands");
}
