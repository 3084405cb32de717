/* The header may be included twice, and without the five names, which are then the program's own to use. */
#define ATLOCK_NO_DEFAULT_INSTANCE
#include "atlock.h"
#include "atlock.h"

#include "check.h"

static int list(int unlock) {
    return unlock + 1;
}

int main(void) {
    CHECK(list(1) == 2);
    CHECK(atlock_abi_version() == ATLOCK_ABI_VERSION);
    return finish("header_twice");
}
