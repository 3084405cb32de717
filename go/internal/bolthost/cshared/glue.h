#ifndef ATLOCK_BOLTHOST_GLUE_H
#define ATLOCK_BOLTHOST_GLUE_H

#include <atlock.h>

/* atlock_buffer_assign, which this library does not link: it belongs to whoever has atlock. */
typedef void assign_function(atlock_buffer *buffer, const uint8_t *data, size_t len);

void bolthost_assign(atlock_buffer *buffer, const uint8_t *data, size_t len);

/* Opens BoltDB's file in a folder as a host store. Not 0: `error` has the text, and `out` must not be used. The function is the
 * same in every call. */
int32_t bolthost_open(const char *folder, assign_function *with, atlock_host_store *out, atlock_buffer *error);

/* Opens the file at a path to migrate it, as atlock_host_files.open does. */
int32_t bolthost_open_file(const char *path, uint32_t access, assign_function *with, atlock_host_store *out, atlock_buffer *error);

#endif
