// examples/c/take_lock.c by koffi: npm install && node take_lock.js ./locks
//
// The loader finds libatlock.so.1 where `make install` put it; ATLOCK_LIBRARY names another file.
"use strict";

const koffi = require("koffi");

const library = koffi.load(process.env.ATLOCK_LIBRARY || "libatlock.so.1");

koffi.opaque("atlock");
koffi.struct("atlock_buffer", { data: "uint8_t *", len: "size_t", capacity: "size_t" });
const open = library.func(
  "int32_t atlock_open(const char *config, size_t config_len, const void *host, _Out_ atlock **handle, _Out_ atlock_buffer *error)",
);
const tryLock = library.func(
  "int32_t atlock_try_lock(const atlock *handle, const char *lock, size_t lock_len, _Out_ atlock_buffer *out, _Out_ atlock_buffer *error)",
);
const listLocks = library.func("int32_t atlock_list_locks(const atlock *handle, _Out_ atlock_buffer *out, _Out_ atlock_buffer *error)");
const close = library.func("int32_t atlock_close(const atlock *handle, _Out_ atlock_buffer *error)");
const free = library.func("void atlock_free(atlock *handle)");
const bufferFree = library.func("void atlock_buffer_free(_Inout_ atlock_buffer *buffer)");
const codeName = library.func("const char *atlock_code_name(int32_t code)");

// The text of a buffer that the library filled, which gets it back.
function take(buffer) {
  const bytes = buffer.len ? koffi.decode(buffer.data, "uint8_t", Number(buffer.len)) : [];
  bufferFree(buffer);
  return Buffer.from(bytes).toString("utf8");
}

function check(code, error) {
  if (code !== 0) throw new Error(`${codeName(code)}: ${take(error)}`);
}

class Locks {
  constructor(folder) {
    const config = JSON.stringify({ locking: { backend: "sled", data_dir: folder } });
    const handle = [null];
    const error = {};
    check(open(config, Buffer.byteLength(config), null, handle, error), error);
    this.handle = handle[0];
  }

  tryLock(lock) {
    const text = JSON.stringify(lock);
    const [answer, error] = [{}, {}];
    check(tryLock(this.handle, text, Buffer.byteLength(text), answer, error), error);
    return JSON.parse(take(answer));
  }

  list() {
    const [answer, error] = [{}, {}];
    check(listLocks(this.handle, answer, error), error);
    return JSON.parse(take(answer));
  }

  close() {
    const error = {};
    try {
      check(close(this.handle, error), error);
    } finally {
      free(this.handle);
    }
  }
}

if (process.argv.length !== 3) {
  console.error("usage: node take_lock.js <folder for the locks>");
  process.exit(1);
}
const locks = new Locks(process.argv[2]);
const answer = locks.tryLock({ Project: { RepoFullName: "acme/infra", Path: "network" }, Workspace: "default", Pull: { Num: 1 } });
console.log(answer.acquired ? "took the lock of acme/infra, folder network, for pull request 1" : "the lock is held already");
console.log("locks in the store:", JSON.stringify(locks.list()));
locks.close();
