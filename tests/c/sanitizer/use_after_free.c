/* Proof that the sanitizer watches: it must kill this program with "heap-use-after-free". */
#include "check.h"

int main(void) {
    atlock_buffer error;
    atlock_buffer config = ATLOCK_BUFFER_INIT;
    if (atlock_load_config(NULL, 0, &config, &error) != ATLOCK_OK) return 1;
    const volatile uint8_t *stale = config.data;
    atlock_buffer_free(&config);
    return *stale == '{' ? 0 : 1;
}
