/* atlock_migration_command over a host store: locks go from it to an embedded store, and back. */
#include "memory_store.h"

/* A file, as the program has it: its store, and the mark of a migration. */
typedef struct file {
    memory_store store;
    char *mark; /* JSON; NULL for none */
    int open, looks;
} file;

static int32_t file_call(void *ctx, uint32_t op, const uint8_t *input, size_t len, atlock_buffer *output, atlock_buffer *error) {
    file *one = ctx;
    if (op != ATLOCK_OP_MIGRATION) return memory_store_call(&one->store, op, input, len, output, error);
    slice set = member((slice){(const char *)input, len}, "set");
    if (set.start != NULL) {
        slice mark = member(set, "mark");
        free(one->mark);
        one->mark = is_null(mark) ? NULL : copied(mark);
        atlock_buffer_assign(output, TEXT("{}"));
        return 0;
    }
    text answer = {NULL, 0};
    append_text(&answer, "{\"mark\":");
    append_text(&answer, one->mark == NULL ? "null" : one->mark);
    append_text(&answer, "}");
    atlock_buffer_assign(output, (const uint8_t *)answer.start, answer.len);
    free(answer.start);
    return 0;
}

static void file_release(void *ctx) { ((file *)ctx)->open--; }

static int32_t open_file(void *ctx, const uint8_t *path, size_t len, uint32_t access, atlock_host_store *out, atlock_buffer *error) {
    file *one = ctx;
    char folder[4096];
    CHECK(getcwd(folder, sizeof folder) != NULL);
    strcat(folder, "/a.db");
    if (len != strlen(folder) || memcmp(path, folder, len) != 0) {
        atlock_buffer_assign(error, TEXT("there is no such file"));
        return 7;
    }
    CHECK(access == ATLOCK_FILE_LOOK || access == ATLOCK_FILE_CHANGE);
    one->open++;
    one->looks += access == ATLOCK_FILE_LOOK;
    *out = (atlock_host_store){ATLOCK_HOST_STORE_ABI_VERSION, one, file_call, file_release};
    return 0;
}

static file the_file = {.store = {.mutex = PTHREAD_MUTEX_INITIALIZER}};
static atlock_host_files files = {ATLOCK_HOST_FILES_ABI_VERSION, &the_file, open_file};

/* Runs a command, which must end with `wanted`, and say `part` on stdout or stderr. */
static void ends(int32_t wanted, const char *part, const char *args) {
    atlock_buffer out, remarks;
    int32_t status = -1;
    SUCCEEDS(atlock_migration_command(TEXT(args), &files, &status, &out, &remarks, error));
    if (status != wanted || !(contains(&out, part) || contains(&remarks, part))) {
        fprintf(stderr, "%s: %d\n%.*s%.*s", args, status, (int)out.len, (const char *)out.data, (int)remarks.len, (const char *)remarks.data);
    }
    CHECK(status == wanted);
    CHECK(contains(&out, part) || contains(&remarks, part));
    CHECK(the_file.open == 0);
    atlock_buffer_free(&out);
    atlock_buffer_free(&remarks);
}

int main(void) {
    static const char key[] = "{\"project\":\"a/b/./w/\"}";
    static const char value[] = "{\"Project\":{\"RepoFullName\":\"a/b\",\"Path\":\".\"},\"Pull\":{\"Num\":1},\"Workspace\":\"w\"}";
    insert(&the_file.store, whole(key), whole(value));

    FILE *place = fopen("a.db", "w"); /* a file that is not there is no source */
    CHECK(place != NULL && fclose(place) == 0);

#define BOTH "[\"migrate\",\"--from\",\"boltdb:a.db\",\"--to\",\"sled:locks\",\"--work\",\"work\""
    ends(0, "planned; nothing was changed: --execute does it", BOTH "]");
    CHECK(the_file.looks > 0 && the_file.mark == NULL);
    ends(0, "\"phase\":\"complete\"", BOTH ",\"--execute\",\"--json\"]");
    CHECK(strstr(the_file.mark, "moved") != NULL);
    ends(0, "same      1 of 1", "[\"migrate\",\"verify\",\"work/manifest.json\"]");
    atlock *handle = open_folder("locks");
    atlock_buffer out;
    static const char target[] = "{\"Key\":\"a/b/./w/\"}";
    SUCCEEDS(atlock_unlock(handle, TEXT(target), &out, error));
    CHECK(equals(&out, value));
    atlock_buffer_free(&out);
    SUCCEEDS(atlock_close(handle, error));
    atlock_free(handle);
    ends(0, "rolled back", "[\"rollback\",\"work/manifest.json\"]");
    CHECK(the_file.store.entries == NULL && strstr(the_file.mark, "decides") != NULL);

    ends(1, "there is no such file", "[\"migrate\",\"--from\",\"boltdb:other.db\",\"--to\",\"sled:x\",\"--work\",\"other\"]");
    ends(2, "unrecognized subcommand", "[\"list\"]");
    ends(0, "Usage: atlantis locking", "[\"--help\"]");

    int32_t status;
    atlock_buffer remarks;
    FAILS(ATLOCK_INVALID_JSON, "args is no JSON array", atlock_migration_command(TEXT("{}"), &files, &status, &out, &remarks, error));
    FAILS(ATLOCK_INVALID_ARGUMENT, "status is null", atlock_migration_command(TEXT("[]"), &files, NULL, &out, &remarks, error));
    atlock_host_files later = {ATLOCK_HOST_FILES_ABI_VERSION + 1, NULL, NULL};
    FAILS(ATLOCK_UNSUPPORTED, "abi_version", atlock_migration_command(TEXT("[]"), &later, &status, &out, &remarks, error));
    static const char third[] = "[\"migrate\",\"--from\",\"boltdb:a.db\",\"--to\",\"sled:x\",\"--work\",\"third\"]";
    SUCCEEDS(atlock_migration_command(TEXT(third), NULL, &status, &out, &remarks, error));
    CHECK(status == 1);
    CHECK(contains(&remarks, "was not passed in"));
    atlock_buffer_free(&out);
    atlock_buffer_free(&remarks);
    free(the_file.mark);
    return finish("migration");
}
