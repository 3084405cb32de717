/* A program may have a list and an unlock of its own beside the library. */
#define ATLOCK_NO_DEFAULT_INSTANCE
#include "check.h"

int list = 3;
int unlock(int number);

int unlock(int number) {
    return number + 1;
}

int main(void) {
    CHECK(list == 3 && unlock(7) == 8);
    CHECK(atlock_abi_version() == ATLOCK_ABI_VERSION);
    return finish("own_names");
}
