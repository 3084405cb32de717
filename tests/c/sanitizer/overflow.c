/* Proof that the library's own reads are watched: it must be killed for reading behind the end of what the caller gave. */
#include "check.h"

int main(void) {
    char *one_byte = malloc(1);
    if (one_byte == NULL) return 1;
    *one_byte = '7';
    atlock_buffer out = ATLOCK_BUFFER_INIT;
    atlock_buffer_assign(&out, (const uint8_t *)one_byte, 64);
    atlock_buffer_free(&out);
    free(one_byte);
    return 0;
}
