/* The five unprefixed functions. Their instance is the process's own, so every scenario is a process, in a folder of its own. */
#include "check.h"

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define LOCK lock_json("acme/infra", ".", 1)

static void expect_answer(char *answer, const char *wanted, const char *file, int line) {
    CHECK(answer != NULL);
    if (strcmp(answer, wanted) != 0) {
        fprintf(stderr, "%s:%d:\n  gave   %s\n  wanted %s\n", file, line, answer, wanted);
        exit(1);
    }
    atlock_string_free(answer);
}

static void expect_part(char *answer, const char *head, const char *part, const char *file, int line) {
    CHECK(answer != NULL);
    if (strncmp(answer, head, strlen(head)) != 0 || strstr(answer, part) == NULL) {
        fprintf(stderr, "%s:%d:\n  gave   %s\n  wanted %s … %s\n", file, line, answer, head, part);
        exit(1);
    }
    atlock_string_free(answer);
}

#define GIVES(call, wanted) expect_answer(call, wanted, __FILE__, __LINE__)
#define GIVES_TOKEN(call) expect_part(call, "{\"ok\":{\"acquired\":true,\"token\":", "}}", __FILE__, __LINE__)
#define GIVES_ERROR(call, code, part) expect_part(call, "{\"error\":{\"code\":" #code ",\"message\":\"", part, __FILE__, __LINE__)

static const char *wrapped(const char *head, const char *json, const char *tail) {
    static char text[2048];
    snprintf(text, sizeof text, "%s%s%s", head, json, tail);
    return text;
}

static bool exists(const char *path) {
    struct stat found;
    return stat(path, &found) == 0;
}

static void envelopes(void) {
    GIVES(list(), "{\"ok\":{\"locks\":[],\"unreadable\":[]}}");
    GIVES(get_lock(LOCK), "{\"ok\":null}");
    GIVES_TOKEN(try_lock(LOCK));
    GIVES(try_lock(lock_json("acme/infra", ".", 2)), wrapped("{\"ok\":{\"acquired\":false,\"lock\":", LOCK, "}}"));
    GIVES(get_lock("{\"Key\":\"acme/infra/./default/\"}"), wrapped("{\"ok\":", LOCK, "}"));
    GIVES(list(), wrapped("{\"ok\":{\"locks\":[", LOCK, "],\"unreadable\":[]}}"));
    GIVES(atlock_default_list_locks(), wrapped("{\"ok\":[", LOCK, "]}"));
    GIVES(unlock(LOCK), wrapped("{\"ok\":", LOCK, "}"));
    GIVES(unlock(LOCK), "{\"ok\":null}");
    GIVES(atlock_default_list_locks(), "{\"ok\":[]}");

    GIVES_TOKEN(try_lock(LOCK));
    GIVES(unlock_by_pull("{\"RepoFullName\":\"acme/infra\",\"PullNum\":2}"), "{\"ok\":{\"locks\":[],\"unreadable\":[]}}");
    GIVES(unlock_by_pull("{\"RepoFullName\":\"acme/infra\",\"PullNum\":1}"),
          wrapped("{\"ok\":{\"locks\":[", LOCK, "],\"unreadable\":[]}}"));
    GIVES_TOKEN(try_lock(LOCK));
    GIVES(unlock_by_pull("{\"Num\":1,\"HeadCommit\":\"c0ffee\",\"BaseRepo\":{\"FullName\":\"acme/infra\",\"Name\":\"infra\"}}"),
          wrapped("{\"ok\":{\"locks\":[", LOCK, "],\"unreadable\":[]}}"));
    GIVES(list(), "{\"ok\":{\"locks\":[],\"unreadable\":[]}}");
}

static void errors(void) {
    GIVES_ERROR(try_lock(NULL), 1, "null");
    GIVES_ERROR(unlock(NULL), 1, "null");
    GIVES_ERROR(get_lock(NULL), 1, "null");
    GIVES_ERROR(unlock_by_pull(NULL), 1, "null");
    GIVES_ERROR(try_lock(""), 2, "at byte 0 of 0");
    GIVES_ERROR(try_lock("{\"quote\":\""), 2, "at byte");
    GIVES_ERROR(unlock("\xff"), 2, "at byte 0 of 1");
    GIVES_ERROR(get_lock("{}"), 2, "a lock is named by");
    GIVES_ERROR(unlock_by_pull("{\"RepoFullName\":\"a/b\"}"), 2, "PullNum");
    GIVES_ERROR(unlock_by_pull("{\"RepoFullName\":\"a/b\",\"PullNum\":1,\"Repo\":\"x\"}"), 2, "Repo");
    atlock_string_free(NULL);
}

static void without_a_setting(void) {
    CHECK(unsetenv("ATLOCK_CONFIG") == 0);
    errors();
    envelopes();
    CHECK(exists("atlock-data"));
}

static void write_settings(void) {
    FILE *file = fopen("settings.yaml", "w");
    CHECK(file != NULL && fputs("locking: {backend: sled, data_dir: elsewhere}\n", file) >= 0 && fclose(file) == 0);
}

static void with_a_settings_file(void) {
    write_settings();
    CHECK(setenv("ATLOCK_CONFIG", "settings.yaml", 1) == 0);
    envelopes();
    CHECK(exists("elsewhere") && !exists("atlock-data"));
}

/* A failure to open is an answer, and not for good: the next call tries again. */
static void opening_is_tried_again(void) {
    CHECK(setenv("ATLOCK_CONFIG", "settings.yaml", 1) == 0);
    GIVES_ERROR(list(), 4, "ATLOCK_CONFIG: ");
    GIVES_ERROR(try_lock(LOCK), 4, "settings.yaml");
    write_settings();
    envelopes();
}

enum { THREADS = 8 };
static pthread_barrier_t barrier;
static atomic_int winners;

static void *first_use(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
    char *answer = try_lock(LOCK);
    CHECK(answer != NULL);
    CHECK(strstr(answer, "\"acquired\":") != NULL);
    if (strstr(answer, "\"acquired\":true") != NULL) atomic_fetch_add(&winners, 1);
    atlock_string_free(answer);
    return NULL;
}

static void eight_threads_on_first_use(void) {
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, first_use, NULL) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_barrier_destroy(&barrier) == 0);
    CHECK(atomic_load(&winners) == 1);
    GIVES(unlock(LOCK), wrapped("{\"ok\":", LOCK, "}"));
}

/* Whoever comes while another process has the folder waits for its end, and meets its lock. */
static void two_processes(void) {
    const struct timespec while_it_is_open = {0, 300000000};
    int opened[2];
    char byte = 0;
    CHECK(unsetenv("ATLOCK_CONFIG") == 0 && pipe(opened) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        GIVES_TOKEN(try_lock(LOCK));
        CHECK(write(opened[1], "x", 1) == 1);
        CHECK(nanosleep(&while_it_is_open, NULL) == 0);
        _exit(0);
    }
    CHECK(read(opened[0], &byte, 1) == 1);
    GIVES(try_lock(lock_json("acme/infra", ".", 2)), wrapped("{\"ok\":{\"acquired\":false,\"lock\":", LOCK, "}}"));
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void in_folder(const char *folder, void (*scenario)(void)) {
    CHECK(mkdir(folder, 0700) == 0 && chdir(folder) == 0);
    if (run_in_child(scenario) != 0) fail(folder, __FILE__, __LINE__);
    CHECK(chdir("..") == 0);
}

int main(void) {
    in_folder("without-a-setting", without_a_setting);
    in_folder("with-a-settings-file", with_a_settings_file);
    in_folder("opening-is-tried-again", opening_is_tried_again);
    in_folder("two-processes", two_processes);
    for (int i = 0; i < 10; i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "eight-threads-%d", i);
        in_folder(folder, eight_threads_on_first_use);
    }
    return finish("default_instance");
}
