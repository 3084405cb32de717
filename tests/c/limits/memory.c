/* A process that may have only so much memory opens a store, or is told that it cannot: it does not die. argv[1]: how much, in MiB. */
#include "check.h"

#include <sys/resource.h>

int main(int argc, char **argv) {
    CHECK(argc == 2);
    const rlim_t bytes = (rlim_t)atol(argv[1]) << 20;
    CHECK(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}) == 0);
    atlock *handle = NULL;
    atlock_buffer error = ATLOCK_BUFFER_INIT;
    const char *config = "{\"locking\":{\"backend\":\"sled\",\"data_dir\":\"locks\"}}";
    if (atlock_open(TEXT(config), NULL, &handle, &error) != ATLOCK_OK) {
        printf("refused: %.*s\n", (int)error.len, (const char *)error.data);
        return 0;
    }
    take(handle, lock_json("acme/infra", ".", 1));
    ANSWERS(lock_json("acme/infra", ".", 1), atlock_unlock(handle, TEXT(lock_json("acme/infra", ".", 2)), out, error));
    SUCCEEDS(atlock_close(handle, error));
    atlock_free(handle);
    printf("opened\n");
    return 0;
}
