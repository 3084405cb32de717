#ifndef ATLOCK_GO_HOST_H
#define ATLOCK_GO_HOST_H

#include <atlock.h>

/* atlock_open over the Go host store that a runtime/cgo.Handle names. */
int32_t atlock_go_open(const uint8_t *config, size_t config_len, uintptr_t host, atlock **out, atlock_buffer *error);

/* atlock_migration_command over the Go files that a runtime/cgo.Handle names. */
int32_t atlock_go_migration_command(const uint8_t *args, size_t args_len, uintptr_t files, int32_t *status, atlock_buffer *out,
                                    atlock_buffer *remarks, atlock_buffer *error);

#endif
