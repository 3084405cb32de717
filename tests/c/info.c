/* ping, status, health. */
#include "check.h"

int main(void) {
    atlock *handle = open_folder("locks");
    atlock_buffer out;

    SUCCEEDS(atlock_ping(handle, error));
    CHECK(atlock_ping(handle, NULL) == ATLOCK_OK);

    SUCCEEDS(atlock_status(handle, &out, error));
    CHECK(starts_with(&out, "{") && contains(&out, "\"mode\":\"strict\"") && contains(&out, "\"enhanced_enabled\":false"));
    CHECK(contains(&out, atlock_version()) && contains(&out, "\"warnings\":[]"));
    atlock_buffer_free(&out);

    SUCCEEDS(atlock_health(handle, &out, error));
    CHECK(contains(&out, "\"overall\":\"healthy\"") && contains(&out, "\"response_time_ms\":") && !contains(&out, "\"error\""));
    atlock_buffer_free(&out);

    atlock_free(handle);
    return finish("info");
}
