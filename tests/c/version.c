/* The library tells which version it is, and header and library agree. */
#include "check.h"

int main(void) {
    CHECK(atlock_abi_version() == ATLOCK_ABI_VERSION);

    unsigned major, minor, patch;
    int end = 0;
    CHECK(sscanf(atlock_version(), "%u.%u.%u%n", &major, &minor, &patch, &end) == 3);
    CHECK(atlock_version()[end] == '\0');
    CHECK(strcmp(atlock_version(), ATLOCK_VERSION) == 0);
    CHECK(major == ATLOCK_VERSION_MAJOR && minor == ATLOCK_VERSION_MINOR && patch == ATLOCK_VERSION_PATCH);

    CHECK(strcmp(atlock_code_name(ATLOCK_OK), "ok") == 0);
    CHECK(strcmp(atlock_code_name(ATLOCK_STORE_BUSY), "store_busy") == 0);
    CHECK(strcmp(atlock_code_name(ATLOCK_STORE_MOVED), "store_moved") == 0);
    CHECK(strcmp(atlock_code_name(-1), "unknown") == 0 && strcmp(atlock_code_name(1000000), "unknown") == 0);

    /* Numbers that programs were compiled with: they never change. */
    CHECK(ATLOCK_OK == 0 && ATLOCK_INVALID_ARGUMENT == 1 && ATLOCK_CLOSED == 6 && ATLOCK_INTERNAL == 23 && ATLOCK_DEGRADED == 24);
    CHECK(ATLOCK_OTHER_PULL == 25 && ATLOCK_QUEUE_FULL == 26 && ATLOCK_NOT_QUEUED == 27 && ATLOCK_QUEUE_DISABLED == 28);
    CHECK(ATLOCK_FROZEN == 29 && ATLOCK_NO_PULL == 30 && ATLOCK_SET_INCOMPLETE == 31 && ATLOCK_STORE_MOVED == 32);
    CHECK(ATLOCK_FORKED == 44);
    CHECK(ATLOCK_ABI_VERSION == 2);
    CHECK(ATLOCK_OP_GRANT == 1 && ATLOCK_OP_PING == 9);
    CHECK(ATLOCK_EXPECT_ANY == 0 && ATLOCK_EXPECT_ABSENT == 1 && ATLOCK_EXPECT_BYTES == 2);
    return finish("version");
}
