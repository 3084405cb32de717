/* A Go host store's ctx is a number, a cgo.Handle. It becomes a pointer on this side only: Go's stacks and heap must hold none
 * that is not one. */
#include "host.h"

#include "_cgo_export.h"

static int32_t call(void *ctx, uint32_t op, const uint8_t *input, size_t input_len, atlock_buffer *output,
                    atlock_buffer *error) {
    return atlockGoHostCall((uintptr_t)ctx, op, (uint8_t *)input, input_len, output, error);
}

static void release(void *ctx) {
    atlockGoHostRelease((uintptr_t)ctx);
}

int32_t atlock_go_open(const uint8_t *config, size_t config_len, uintptr_t host, atlock **out, atlock_buffer *error) {
    atlock_host_store callbacks = {ATLOCK_HOST_STORE_ABI_VERSION, (void *)host, call, release};
    return atlock_open(config, config_len, &callbacks, out, error);
}

static int32_t open_file(void *ctx, const uint8_t *path, size_t path_len, uint32_t access, atlock_host_store *out,
                         atlock_buffer *error) {
    uintptr_t host = atlockGoFilesOpen((uintptr_t)ctx, (uint8_t *)path, path_len, access, error);
    *out = (atlock_host_store){ATLOCK_HOST_STORE_ABI_VERSION, (void *)host, call, release};
    return host == 0;
}

int32_t atlock_go_migration_command(const uint8_t *args, size_t args_len, uintptr_t files, int32_t *status, atlock_buffer *out,
                                    atlock_buffer *remarks, atlock_buffer *error) {
    atlock_host_files all = {ATLOCK_HOST_FILES_ABI_VERSION, (void *)files, open_file};
    return atlock_migration_command(args, args_len, &all, status, out, remarks, error);
}
