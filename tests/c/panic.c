/* A panic inside the library comes back as a status, and the library works afterwards. */
#define ATLOCK_TEST_PANIC
#include "check.h"

int main(void) {
    atlock *handle = open_folder("locks");
    for (int i = 0; i < 3; i++) {
        FAILS(ATLOCK_INTERNAL, "a deliberate panic", atlock_test_panic(error));
        FAILS(ATLOCK_INTERNAL, "please report it", atlock_test_panic(error));
        CHECK(atlock_test_panic(NULL) == ATLOCK_INTERNAL);
        const char *lock = lock_json("acme/infra", ".", i);
        take(handle, lock);
        ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    }
    atlock_free(handle);
    return finish("panic");
}
