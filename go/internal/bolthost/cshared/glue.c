/* The C side: what a caller of dlopen gets, and the way from the callbacks to Go. */
#include "glue.h"

#include "_cgo_export.h"

static assign_function *assign;

static int32_t call(void *ctx, uint32_t op, const uint8_t *input, size_t input_len, atlock_buffer *output,
                    atlock_buffer *error) {
    return bolthostCall((uintptr_t)ctx, op, (uint8_t *)input, input_len, output, error);
}

static void release(void *ctx) {
    bolthostRelease((uintptr_t)ctx);
}

void bolthost_assign(atlock_buffer *buffer, const uint8_t *data, size_t len) {
    assign(buffer, data, len);
}

static int32_t opened(uintptr_t store, atlock_host_store *out) {
    *out = (atlock_host_store){ATLOCK_HOST_STORE_ABI_VERSION, (void *)store, call, release};
    return store == 0;
}

int32_t bolthost_open(const char *folder, assign_function *with, atlock_host_store *out, atlock_buffer *error) {
    assign = with;
    return opened(bolthostOpen((char *)folder, error), out);
}

int32_t bolthost_open_file(const char *path, uint32_t access, assign_function *with, atlock_host_store *out, atlock_buffer *error) {
    assign = with;
    return opened(bolthostOpenFile((char *)path, access, error), out);
}
