"""examples/c/take_lock.c by ctypes, without a package: python3 take_lock.py ./locks

The loader finds libatlock.so.1 where `make install` put it; ATLOCK_LIBRARY names another file.
"""

import ctypes
import json
import os
import sys

library = ctypes.CDLL(os.environ.get("ATLOCK_LIBRARY", "libatlock.so.1"))


class Buffer(ctypes.Structure):
    """Bytes that the library allocated: copied, then given back."""

    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_size_t), ("capacity", ctypes.c_size_t)]

    def take(self):
        taken = ctypes.string_at(self.data, self.len) if self.len else b""
        library.atlock_buffer_free(ctypes.byref(self))
        return taken


# Without these, ctypes takes each number for an int, and a length or an address loses its upper half.
pointer, size, buffer = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Buffer)
signatures = {
    "atlock_open": [ctypes.c_char_p, size, pointer, ctypes.POINTER(pointer), buffer],
    "atlock_try_lock": [pointer, ctypes.c_char_p, size, buffer, buffer],
    "atlock_list_locks": [pointer, buffer, buffer],
    "atlock_close": [pointer, buffer],
}
for name, arguments in signatures.items():
    getattr(library, name).argtypes = arguments
    getattr(library, name).restype = ctypes.c_int32
library.atlock_buffer_free.argtypes, library.atlock_buffer_free.restype = [buffer], None
library.atlock_free.argtypes, library.atlock_free.restype = [pointer], None
library.atlock_code_name.argtypes, library.atlock_code_name.restype = [ctypes.c_int32], ctypes.c_char_p


class LockingError(Exception):
    """A call failed: the code's name and the library's text."""


def check(code, error):
    if code != 0:
        raise LockingError(f"{library.atlock_code_name(code).decode()}: {error.take().decode()}")


class Locks:
    """An open store: with Locks(folder) as locks: …"""

    def __init__(self, folder):
        config = json.dumps({"locking": {"backend": "sled", "data_dir": folder}}).encode()
        self._handle, error = pointer(), Buffer()
        check(library.atlock_open(config, len(config), None, ctypes.byref(self._handle), ctypes.byref(error)), error)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            error = Buffer()
            check(library.atlock_close(self._handle, ctypes.byref(error)), error)
        finally:
            library.atlock_free(self._handle)

    def try_lock(self, lock):
        text, answer, error = json.dumps(lock).encode(), Buffer(), Buffer()
        check(library.atlock_try_lock(self._handle, text, len(text), ctypes.byref(answer), ctypes.byref(error)), error)
        return json.loads(answer.take())

    def list(self):
        answer, error = Buffer(), Buffer()
        check(library.atlock_list_locks(self._handle, ctypes.byref(answer), ctypes.byref(error)), error)
        return json.loads(answer.take())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} <folder for the locks>")
    lock = {"Project": {"RepoFullName": "acme/infra", "Path": "network"}, "Workspace": "default", "Pull": {"Num": 1}}
    with Locks(sys.argv[1]) as locks:
        if locks.try_lock(lock)["acquired"]:
            print("took the lock of acme/infra, folder network, for pull request 1")
        else:
            print("the lock is held already")
        print("locks in the store:", json.dumps(locks.list(), separators=(",", ":")))
