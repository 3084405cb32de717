/* The shadow of a store that the program calls itself: what it is told is counted, and bad inputs are refused. */
#include "check.h"

#include <time.h>

#define CONFIG "{\"locking\":{\"shadow\":{\"store\":\"sled\",\"data_dir\":\"shadow\"}}}"
#define ON_REDIS "{\"locking\":{\"shadow\":{\"store\":\"redis\"}}}"

static const atlock_shadow *shadow;

/* An operation that is asked, and answered like this. */
static void tell(const char *asked, const char *answer) {
    uint64_t number = 0;
    SUCCEEDS(atlock_shadow_begin(shadow, TEXT(asked), &number, error));
    CHECK(number != 0);
    SUCCEEDS(atlock_shadow_end(shadow, number, TEXT(answer), error));
}

/* Waits until the status has this part. */
static void wait_for(const char *part) {
    for (int i = 0;; i++) {
        atlock_buffer out;
        SUCCEEDS(atlock_shadow_status(shadow, &out, error));
        bool found = contains(&out, part);
        if (!found && i > 6000) show_answer("atlock_shadow_status", part, &out, __FILE__, __LINE__);
        atlock_buffer_free(&out);
        if (found) break;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}

int main(void) {
    atlock_shadow *opened = NULL;
    FAILS(ATLOCK_INVALID_CONFIG, "locking.shadow names no store", atlock_shadow_open(TEXT("{}"), 0, &opened, error));
    FAILS(ATLOCK_INVALID_CONFIG, "Atlantis's own Redis", atlock_shadow_open(TEXT(ON_REDIS), 1, &opened, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "out is null", atlock_shadow_open(TEXT(CONFIG), 0, NULL, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "the handle is null", atlock_shadow_end(NULL, 1, TEXT("\"granted\""), error));
    atlock_shadow_free(NULL);

    SUCCEEDS(atlock_shadow_open(TEXT(CONFIG), 0, &opened, error));
    shadow = opened;
    wait_for("\"state\":\"following\"");
    tell("{\"operation\":\"list\",\"fill\":true}", "{\"locks\":[]}");
    wait_for("\"in_step\":true");

    char asked[1200];
    snprintf(asked, sizeof asked, "{\"operation\":\"try_lock\",\"key\":\"acme/infra/a/default/\",\"value\":%s}", lock_json("acme/infra", "a", 1));
    tell(asked, "\"granted\"");
    tell("{\"operation\":\"get_lock\",\"key\":\"acme/infra/a/default/\"}", "{\"was\":\"something\"}");
    tell("{\"operation\":\"unlock\",\"key\":\"acme/infra/a/default/\",\"pull\":1}", "{\"was\":\"nothing\"}");
    wait_for("\"operations\":3");
    wait_for("\"same\":2");
    wait_for("\"different\":1");
    wait_for("\"decided\":\"nothing\"");
    wait_for("\"shadow\":\"pull #1 of acme/infra\"");

    /* What cannot be read, and what has no end: not known. */
    uint64_t number = 0;
    FAILS(ATLOCK_INVALID_ARGUMENT, "is no operation", atlock_shadow_begin(shadow, TEXT("{\"operation\":\"x\"}"), &number, error));
    FAILS(ATLOCK_INVALID_JSON, "", atlock_shadow_begin(shadow, TEXT("{"), &number, error));
    SUCCEEDS(atlock_shadow_begin(shadow, TEXT("{\"operation\":\"get_lock\",\"key\":\"k\"}"), &number, error));
    FAILS(ATLOCK_INVALID_JSON, "", atlock_shadow_end(shadow, number, TEXT("\"x\""), error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "no such operation", atlock_shadow_end(shadow, number, TEXT("\"granted\""), error));
    SUCCEEDS(atlock_shadow_begin(shadow, TEXT("{\"operation\":\"list\"}"), &number, error));
    wait_for("\"uncertain\":1");

    atlock_buffer metrics;
    SUCCEEDS(atlock_shadow_metrics(shadow, &metrics, error));
    CHECK(contains(&metrics, "atlock_shadow_operations_total{operation=\"unlock\",result=\"different\"} 1\n"));
    CHECK(!contains(&metrics, "# EOF"));
    atlock_buffer_free(&metrics);

    atlock_shadow_free(opened);
    return finish("shadow");
}
