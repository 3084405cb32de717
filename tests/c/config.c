/* atlock_load_config: a file, the environment over it, and an error with a place for every mistake. */
#include "check.h"

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    CHECK(fputs(text, file) >= 0);
    CHECK(fclose(file) == 0);
}

static void file_then_environment(void) {
    write_file("locking.yaml", "locking:\n  backend: sled\n  data_dir: from-file\n  timeout: 3s\n");
    atlock_buffer config;
    SUCCEEDS(atlock_load_config(TEXT("locking.yaml"), &config, error));
    CHECK(contains(&config, "\"data_dir\":\"from-file\""));
    CHECK(contains(&config, "\"timeout\":\"3s\""));

    /* What was loaded can be opened. */
    atlock *handle;
    SUCCEEDS(atlock_open(config.data, config.len, NULL, &handle, error));
    atlock_free(handle);
    atlock_buffer_free(&config);

    CHECK(setenv("ATLANTIS_LOCKING_DATA_DIR", "from-environment", 1) == 0);
    SUCCEEDS(atlock_load_config(TEXT("locking.yaml"), &config, error));
    CHECK(contains(&config, "\"data_dir\":\"from-environment\""));
    CHECK(contains(&config, "\"timeout\":\"3s\""));
    atlock_buffer_free(&config);
    CHECK(unsetenv("ATLANTIS_LOCKING_DATA_DIR") == 0);
}

static void file_over_the_programs_defaults(void) {
    static const char defaults[] = "{\"locking\":{\"data_dir\":\"default\",\"timeout\":\"7s\"}}";
    write_file("over.yaml", "locking:\n  timeout: 3s\n");
    atlock_buffer config;
    SUCCEEDS(atlock_load_config_over(TEXT(defaults), TEXT("over.yaml"), &config, error));
    CHECK(contains(&config, "\"data_dir\":\"default\""));
    CHECK(contains(&config, "\"timeout\":\"3s\""));
    atlock_buffer_free(&config);

    CHECK(setenv("ATLANTIS_LOCKING_DATA_DIR", "from-environment", 1) == 0);
    SUCCEEDS(atlock_load_config_over(TEXT(defaults), NULL, 0, &config, error));
    CHECK(contains(&config, "\"data_dir\":\"from-environment\""));
    CHECK(contains(&config, "\"timeout\":\"7s\""));
    atlock_buffer_free(&config);
    CHECK(unsetenv("ATLANTIS_LOCKING_DATA_DIR") == 0);

    atlock_buffer out = poisoned_buffer();
    FAILS(ATLOCK_INVALID_CONFIG, "the program's default settings", atlock_load_config_over(TEXT("{\"x\":1}"), NULL, 0, &out, error));
    CHECK(is_poisoned(&out, sizeof out));
}

static void no_file_is_strict_on_the_host_store(void) {
    atlock_buffer config;
    SUCCEEDS(atlock_load_config(NULL, 0, &config, error));
    CHECK(contains(&config, "\"backend\":\"boltdb\""));
    CHECK(contains(&config, "\"enabled\":false"));
    atlock_buffer_free(&config);
}

static void mistakes_name_their_place(void) {
    atlock_buffer out = poisoned_buffer();
    write_file("typo.yaml", "locking:\n  backend: sled\n  dta_dir: x\n");
    FAILS(ATLOCK_INVALID_CONFIG, "typo.yaml:3:3: unknown key \"dta_dir\"; did you mean \"data_dir\"?",
          atlock_load_config(TEXT("typo.yaml"), &out, error));
    FAILS(ATLOCK_INVALID_CONFIG, "no/such/file.yaml", atlock_load_config(TEXT("no/such/file.yaml"), &out, error));
    FAILS(ATLOCK_INVALID_CONFIG, "cannot read", atlock_load_config(TEXT("."), &out, error));
    write_file("value.yaml", "locking:\n  timeout: soon\n");
    FAILS(ATLOCK_INVALID_CONFIG, "value.yaml:2", atlock_load_config(TEXT("value.yaml"), &out, error));

    CHECK(setenv("ATLANTIS_ENHANCED_LOCKING_ENABLE", "true", 1) == 0);
    FAILS(ATLOCK_INVALID_CONFIG, "did you mean ATLANTIS_ENHANCED_LOCKING_ENABLED?",
          atlock_load_config(NULL, 0, &out, error));
    CHECK(unsetenv("ATLANTIS_ENHANCED_LOCKING_ENABLE") == 0);
    CHECK(is_poisoned(&out, sizeof out));
}

int main(void) {
    file_then_environment();
    file_over_the_programs_defaults();
    no_file_is_strict_on_the_host_store();
    mistakes_name_their_place();
    return finish("config");
}
