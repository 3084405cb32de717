/* Proof that the library's Rust code is instrumented: it must be caught reading an input that was freed. */
#include "check.h"

int main(void) {
    atlock *handle = open_folder("locks");
    uint8_t *freed = malloc(64);
    if (freed == NULL) return 1;
    memset(freed, ' ', 64);
    volatile uintptr_t address = (uintptr_t)freed;
    free(freed);
    atlock_buffer out, error;
    int32_t status = atlock_get_lock(handle, (const uint8_t *)address, 64, &out, &error);
    atlock_buffer_free(status == ATLOCK_OK ? &out : &error);
    atlock_free(handle);
    return 0;
}
