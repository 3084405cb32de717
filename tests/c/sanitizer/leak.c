/* Proof that leaks are looked for: LeakSanitizer must report the buffer that this program does not free. */
#include "check.h"

int main(void) {
    atlock_buffer config, error;
    if (atlock_load_config(NULL, 0, &config, &error) != ATLOCK_OK) return 1;
    poison(&config, sizeof config);
    return 0;
}
