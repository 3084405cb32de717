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
