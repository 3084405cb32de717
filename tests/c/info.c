/* ping, status, health, metrics, lock_info. */
#include "check.h"

int main(void) {
    atlock *handle = open_folder("locks");
    atlock_buffer out;

    SUCCEEDS(atlock_ping(handle, error));
    CHECK(atlock_ping(handle, NULL) == ATLOCK_OK);

    SUCCEEDS(atlock_status(handle, &out, error));
    CHECK(starts_with(&out, "{") && contains(&out, "\"mode\":\"strict\"") && contains(&out, "\"enhanced_enabled\":false"));
    CHECK(contains(&out, atlock_version()) && contains(&out, "\"warnings\":[]"));
    CHECK(contains(&out, "\"legacy_ops\":2,\"enhanced_ops\":0,\"fallback_active\":false,\"circuit_state\":\"disabled\",\"fallback_ops\":0,"
                         "\"errors\":0"));
    atlock_buffer_free(&out);

    SUCCEEDS(atlock_health(handle, &out, error));
    CHECK(contains(&out, "\"overall\":true,\"state\":\"healthy\"") && contains(&out, "ms\",\"response_time_ms\":") && !contains(&out, "\"error\""));
    CHECK(contains(&out, "\"headline\":\"The lock store decides\""));
    CHECK(contains(&out, "\"legacy\":{\"healthy\":true") && contains(&out, "\"circuit_state\":\"disabled\""));
    atlock_buffer_free(&out);

    SUCCEEDS(atlock_metrics(handle, &out, error));
    CHECK(contains(&out, "\natlock_operations_total{operation=\"ping\",store=\"legacy\",result=\"ok\"} 3\n"));
    CHECK(contains(&out, "\natlock_info{version=\"") && ends_with(&out, "\n# EOF\n"));
    atlock_buffer_free(&out);
    FAILS(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_metrics(handle, NULL, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "handle is null", atlock_metrics(NULL, &out, error));

    static const char lock[] = "{\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"},\"Pull\":{\"Num\":1},\"Workspace\":\"w\"}";
    SUCCEEDS(atlock_try_lock(handle, (const uint8_t *)lock, strlen(lock), &out, error));
    atlock_buffer_free(&out);
    static const char keys[] = "[\"a/b/./w/\",\"a/b/none/w/\"]";
    SUCCEEDS(atlock_lock_info(handle, (const uint8_t *)keys, strlen(keys), &out, error));
    CHECK(starts_with(&out, "[{\"token\":") && ends_with(&out, ",\"store\":\"legacy\"},null]"));
    atlock_buffer_free(&out);
    FAILS(ATLOCK_INVALID_JSON, "at byte", atlock_lock_info(handle, (const uint8_t *)keys, 3, &out, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "keys is null", atlock_lock_info(handle, NULL, 3, &out, error));

    atlock_free(handle);
    return finish("info");
}
