/* Pull statuses: read, and replaced by compare-and-swap. */
#include "check.h"

#define KEY TEXT("github.com::acme/infra::7")
#define FIRST "{\"Projects\":[ ],\"Pull\":{\"Num\":7}}"
#define SECOND "{\"Projects\":[{\"Status\":1}],\"Pull\":{\"Num\":7}}"

static const atlock *handle;

/* Swaps, and tells whether it was swapped; where not, `found` is what must be there. */
static bool swap(uint32_t expect, const char *expected, const char *new_value, const char *found) {
    int32_t swapped = 77;
    atlock_buffer current;
    SUCCEEDS(atlock_swap_pull_status(handle, KEY, expect, (const uint8_t *)expected, expected ? strlen(expected) : 0,
                                     (const uint8_t *)new_value, new_value ? strlen(new_value) : 0, &swapped, &current, error));
    CHECK(swapped == 0 || swapped == 1);
    CHECK(equals(&current, swapped ? "" : found));
    atlock_buffer_free(&current);
    return swapped == 1;
}

int main(void) {
    atlock *opened = open_folder("locks");
    handle = opened;

    ANSWERS("", atlock_get_pull_status(handle, KEY, out, error));
    CHECK(!swap(ATLOCK_EXPECT_BYTES, FIRST, SECOND, ""));
    CHECK(swap(ATLOCK_EXPECT_ABSENT, NULL, FIRST, NULL));
    ANSWERS(FIRST, atlock_get_pull_status(handle, KEY, out, error));

    CHECK(!swap(ATLOCK_EXPECT_ABSENT, NULL, SECOND, FIRST));
    CHECK(!swap(ATLOCK_EXPECT_BYTES, SECOND, SECOND, FIRST));
    CHECK(!swap(ATLOCK_EXPECT_BYTES, "{\"Projects\":[],\"Pull\":{\"Num\":7}}", SECOND, FIRST)); /* the same JSON, other bytes */
    CHECK(swap(ATLOCK_EXPECT_BYTES, FIRST, SECOND, NULL));
    CHECK(swap(ATLOCK_EXPECT_BYTES, SECOND, SECOND, NULL));
    CHECK(swap(ATLOCK_EXPECT_ANY, NULL, FIRST, NULL));
    ANSWERS(FIRST, atlock_get_pull_status(handle, KEY, out, error));
    ANSWERS("", atlock_get_pull_status(handle, TEXT("github.com::acme/infra::77"), out, error));

    /* Deleting, and deleting what is not there. */
    CHECK(!swap(ATLOCK_EXPECT_BYTES, SECOND, NULL, FIRST));
    CHECK(swap(ATLOCK_EXPECT_BYTES, FIRST, NULL, NULL));
    ANSWERS("", atlock_get_pull_status(handle, KEY, out, error));
    CHECK(swap(ATLOCK_EXPECT_ANY, NULL, NULL, NULL));
    CHECK(swap(ATLOCK_EXPECT_ABSENT, NULL, NULL, NULL));

    atlock_free(opened);
    return finish("pull_status");
}
