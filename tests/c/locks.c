/* One lock: taking, refusing, reading, releasing, discarding. */
#include "check.h"

/* Fields of later Atlantis versions, odd spacing and a non-ASCII name: all of it must come back byte for byte. */
#define ODD_LOCK                                                                                                         \
    "{ \"Later\" : {\"x\":[1, 2.50,null]},\"Project\":{\"ProjectName\":\"w\\u00e9b\",\"RepoFullName\":\"acme/infra\","   \
    "\"Path\":\"stacks/prod\"},\"Pull\":{\"Num\":7,\"Author\":\"z\xc3\xbc\"},\"Workspace\":\"default\", \"Time\":\"2026-11-24T08:17:00Z\"}"
#define SAME_KEY_OTHER_PULL                                                                                     \
    "{\"Project\":{\"ProjectName\":\"w\xc3\xa9" "b\",\"RepoFullName\":\"acme/infra\",\"Path\":\"stacks/prod\"}," \
    "\"Pull\":{\"Num\":8},\"Workspace\":\"default\"}"
#define BY_KEY "{\"Key\":\"acme/infra/stacks/prod/default/w\xc3\xa9" "b\"}"

static unsigned long long taken_token(const atlock *handle, const char *lock) {
    atlock_buffer out;
    unsigned long long token = 0;
    char text[64] = "";
    SUCCEEDS(atlock_try_lock(handle, TEXT(lock), &out, error));
    CHECK(out.len < sizeof text);
    memcpy(text, out.data, out.len);
    CHECK(sscanf(text, "{\"acquired\":true,\"token\":%llu}", &token) == 1);
    atlock_buffer_free(&out);
    return token;
}

static void a_held_lock_stays(const atlock *handle) {
    take(handle, ODD_LOCK);
    ANSWERS("{\"acquired\":false,\"lock\":" ODD_LOCK "}", atlock_try_lock(handle, TEXT(SAME_KEY_OTHER_PULL), out, error));
    ANSWERS("{\"acquired\":false,\"lock\":" ODD_LOCK "}", atlock_try_lock(handle, TEXT(ODD_LOCK), out, error));
    ANSWERS(ODD_LOCK, atlock_get_lock(handle, TEXT(SAME_KEY_OTHER_PULL), out, error));
    ANSWERS(ODD_LOCK, atlock_get_lock(handle, TEXT(BY_KEY), out, error));
    ANSWERS(ODD_LOCK, atlock_unlock(handle, TEXT(BY_KEY), out, error));
    ANSWERS("null", atlock_unlock(handle, TEXT(BY_KEY), out, error));
    ANSWERS("null", atlock_get_lock(handle, TEXT(BY_KEY), out, error));
}

static void tokens_grow(const atlock *handle) {
    const char *lock = lock_json("acme/infra", "tokens", 1);
    unsigned long long last = 0;
    for (int i = 0; i < 20; i++) {
        unsigned long long token = taken_token(handle, lock);
        CHECK(token > last);
        last = token;
        ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
    }
}

static void only_the_owner_releases(const atlock *handle) {
    const char *lock = lock_json("acme/infra", "owned", 5);
    take(handle, lock);
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 6, out, error));
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), -5, out, error));
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), INT64_MAX, out, error));
    ANSWERS(lock, atlock_get_lock(handle, TEXT(lock), out, error));
    ANSWERS(lock, atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 5, out, error));
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(lock), 5, out, error));
}

/* Two locks whose fields differ and whose keys are the same: path "a", workspace "b/c"; path "a/b", workspace "c". */
static void fields_guard_a_shared_key(const atlock *handle) {
    const char *first = "{\"Project\":{\"ProjectName\":\"\",\"RepoFullName\":\"o/r\",\"Path\":\"a\"},\"Pull\":{\"Num\":1},\"Workspace\":\"b/c\"}";
    const char *alike = "{\"Project\":{\"ProjectName\":\"\",\"RepoFullName\":\"o/r\",\"Path\":\"a/b\"},\"Pull\":{\"Num\":2},\"Workspace\":\"c\"}";
    take(handle, alike);
    atlock_buffer out;
    SUCCEEDS(atlock_try_lock(handle, TEXT(first), &out, error));
    CHECK(starts_with(&out, "{\"acquired\":false") && contains(&out, alike));
    atlock_buffer_free(&out);
    ANSWERS("null", atlock_get_lock(handle, TEXT(first), out, error));
    ANSWERS("null", atlock_unlock(handle, TEXT(first), out, error));
    ANSWERS("null", atlock_unlock_if_owned_by_pull(handle, TEXT(first), 2, out, error));
    ANSWERS(alike, atlock_unlock(handle, TEXT("{\"Key\":\"o/r/a/b/c/\"}"), out, error));
}

static void discard_removes_what_is_there(const atlock *handle) {
    const char *lock = lock_json("acme/infra", "discarded", 1);
    ANSWERS("null", atlock_discard(handle, TEXT(lock), out, error));
    take(handle, lock);
    ANSWERS(lock, atlock_discard(handle, TEXT("{\"Key\":\"acme/infra/discarded/default/\"}"), out, error));
    ANSWERS("null", atlock_get_lock(handle, TEXT(lock), out, error));
}

static void embedded_nul_is_data_not_an_end(const atlock *handle) {
    const char *lock = "{\"Project\":{\"ProjectName\":\"a\\u0000b\",\"RepoFullName\":\"acme/infra\",\"Path\":\".\"},\"Pull\":{\"Num\":1},\"Workspace\":\"default\"}";
    take(handle, lock);
    ANSWERS("null", atlock_get_lock(handle, TEXT("{\"Key\":\"acme/infra/./default/a\"}"), out, error));
    ANSWERS(lock, atlock_unlock(handle, TEXT(lock), out, error));
}

int main(void) {
    atlock *handle = open_folder("locks");
    a_held_lock_stays(handle);
    tokens_grow(handle);
    only_the_owner_releases(handle);
    fields_guard_a_shared_key(handle);
    discard_removes_what_is_there(handle);
    embedded_nul_is_data_not_an_end(handle);
    ANSWERS("{\"locks\":[],\"unreadable\":[]}", atlock_list(handle, out, NULL, error));
    atlock_free(handle);
    return finish("locks");
}
