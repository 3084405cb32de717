package capi

/*
#cgo CFLAGS: -I${SRCDIR}/../../../include -DATLOCK_NO_DEFAULT_INSTANCE
#cgo linux,amd64,!musl,!atlock_external LDFLAGS: ${SRCDIR}/../archive/x86_64-unknown-linux-gnu/libatlock.a
#cgo linux,arm64,!musl,!atlock_external LDFLAGS: ${SRCDIR}/../archive/aarch64-unknown-linux-gnu/libatlock.a
#cgo linux,amd64,musl,!atlock_external LDFLAGS: ${SRCDIR}/../archive/x86_64-unknown-linux-musl/libatlock.a
#cgo linux,arm64,musl,!atlock_external LDFLAGS: ${SRCDIR}/../archive/aarch64-unknown-linux-musl/libatlock.a
#cgo !musl,!atlock_external LDFLAGS: -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
#cgo musl,!atlock_external LDFLAGS: -lgcc_eh -lc
#include <atlock.h>
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Handle is an open atlock instance. Its methods may be called from any goroutine at once, and after Close, when they
// fail with [Closed].
type Handle struct {
	handle *C.atlock
	host   *guardedHost // nil without a host store
}

// LoadConfig reads a settings file and the environment and returns the settings as JSON. An empty path means no file.
func LoadConfig(path string) (Buffer, error) {
	var out Buffer
	status := func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_load_config(text(path), C.size_t(len(path)), &out.buffer, failure)
	}
	return out, check(status)
}

// LoadConfigOver is LoadConfig over a program's own settings, as JSON.
func LoadConfigOver(defaults []byte, path string) (Buffer, error) {
	var out Buffer
	status := func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_load_config_over(data(defaults), C.size_t(len(defaults)), text(path), C.size_t(len(path)), &out.buffer, failure)
	}
	return out, check(status)
}

// HasLocalStore tells whether there is a store in a folder.
func HasLocalStore(dataDir string) (bool, error) {
	var found C.int32_t
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_has_local_store(text(dataDir), C.size_t(len(dataDir)), &found, failure)
	})
	return found == 1, err
}

// Open opens the stores that the settings, as JSON, name.
func Open(config []byte) (*Handle, error) {
	return open(nil, func(h *Handle, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_open(data(config), C.size_t(len(config)), nil, &h.handle, failure)
	})
}

func open(host *guardedHost, call func(h *Handle, failure *C.atlock_buffer) C.int32_t) (*Handle, error) {
	h := &Handle{host: host}
	if err := check(func(failure *C.atlock_buffer) C.int32_t { return call(h, failure) }); err != nil {
		return nil, err
	}
	// The contract is Close; this returns the handle's memory once nobody can call it any more.
	runtime.AddCleanup(h, func(handle *C.atlock) { C.atlock_free(handle) }, h.handle)
	return h, nil
}

// Close closes the stores, the host store too. Closing again is harmless.
func (h *Handle) Close() error {
	defer runtime.KeepAlive(h)
	err := check(func(failure *C.atlock_buffer) C.int32_t { return C.atlock_close(h.handle, failure) })
	if h.host != nil {
		err = errors.Join(err, h.host.close())
	}
	return err
}

// TryLock takes a lock if it is free.
func (h *Handle) TryLock(lock []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_try_lock(h.handle, data(lock), C.size_t(len(lock)), out, failure)
	})
}

// Unlock releases a lock.
func (h *Handle) Unlock(target []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_unlock(h.handle, data(target), C.size_t(len(target)), out, failure)
	})
}

// UnlockIfOwnedByPull releases a lock if this pull holds it.
func (h *Handle) UnlockIfOwnedByPull(target []byte, pullNum int) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_unlock_if_owned_by_pull(h.handle, data(target), C.size_t(len(target)), C.int64_t(pullNum), out, failure)
	})
}

// GetLock reads a lock.
func (h *Handle) GetLock(target []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_get_lock(h.handle, data(target), C.size_t(len(target)), out, failure)
	})
}

// List reads all locks.
func (h *Handle) List() (Listing, error) {
	return h.listing(func(out *C.atlock_buffer, spans *C.atlock_spans, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_list(h.handle, out, spans, failure)
	})
}

// LockInfo tells how the locks at these keys, a JSON array, stand.
func (h *Handle) LockInfo(keys []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_lock_info(h.handle, data(keys), C.size_t(len(keys)), out, failure)
	})
}

// UnlockByPull releases all locks of a pull.
func (h *Handle) UnlockByPull(repo string, pullNum int) (Listing, error) {
	return h.listing(func(out *C.atlock_buffer, spans *C.atlock_spans, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_unlock_by_pull(h.handle, text(repo), C.size_t(len(repo)), C.int64_t(pullNum), out, spans, failure)
	})
}

// LockCommand takes a command's global lock if it is free.
func (h *Handle) LockCommand(name string, lock []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_lock_command(h.handle, text(name), C.size_t(len(name)), data(lock), C.size_t(len(lock)), out, failure)
	})
}

// UnlockCommand releases a command's global lock.
func (h *Handle) UnlockCommand(name string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_unlock_command(h.handle, text(name), C.size_t(len(name)), out, failure)
	})
}

// CheckCommandLock reads a command's global lock.
func (h *Handle) CheckCommandLock(name string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_check_command_lock(h.handle, text(name), C.size_t(len(name)), out, failure)
	})
}

// PullStatus reads a pull status; a null buffer means that there is none.
func (h *Handle) PullStatus(key string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_get_pull_status(h.handle, text(key), C.size_t(len(key)), out, failure)
	})
}

// SwapPullStatus replaces a pull status if it is still expected (nil: if there is none), and tells whether it did. If not,
// the buffer holds the current one, and is null if there is none.
func (h *Handle) SwapPullStatus(key string, expected, newValue []byte) (bool, Buffer, error) {
	expect := C.uint32_t(C.ATLOCK_EXPECT_BYTES)
	if expected == nil {
		expect = C.ATLOCK_EXPECT_ABSENT
	}
	return h.swap(key, expect, expected, newValue)
}

// DeletePullStatus deletes a pull status, whatever it is.
func (h *Handle) DeletePullStatus(key string) error {
	_, current, err := h.swap(key, C.ATLOCK_EXPECT_ANY, nil, nil)
	current.Free()
	return err
}

func (h *Handle) swap(key string, expect C.uint32_t, expected, newValue []byte) (bool, Buffer, error) {
	var swapped C.int32_t
	current, err := h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_swap_pull_status(h.handle, text(key), C.size_t(len(key)), expect,
			data(expected), C.size_t(len(expected)), data(newValue), C.size_t(len(newValue)), &swapped, out, failure)
	})
	return swapped != 0, current, err
}

// Ping tells whether the store that decides answers.
func (h *Handle) Ping() error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t { return C.atlock_ping(h.handle, failure) })
}

// Status reads mode, counters and warnings.
func (h *Handle) Status() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_status(h.handle, out, failure) })
}

// Health asks the store that decides; in hybrid mode it reads what the last probes saw.
func (h *Handle) Health() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_health(h.handle, out, failure) })
}

// Metrics reads counters and latencies as OpenMetrics text.
func (h *Handle) Metrics() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_metrics(h.handle, out, failure) })
}

func (h *Handle) output(call func(out, failure *C.atlock_buffer) C.int32_t) (Buffer, error) {
	defer runtime.KeepAlive(h)
	var out Buffer
	err := check(func(failure *C.atlock_buffer) C.int32_t { return call(&out.buffer, failure) })
	return out, err
}

func (h *Handle) listing(call func(out *C.atlock_buffer, spans *C.atlock_spans, failure *C.atlock_buffer) C.int32_t) (Listing, error) {
	defer runtime.KeepAlive(h)
	var out Listing
	err := check(func(failure *C.atlock_buffer) C.int32_t { return call(&out.json.buffer, &out.spans, failure) })
	return out, err
}

// data points to a slice's bytes for the length of one call; nil for an empty one.
func data(bytes []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(bytes)))
}

func text(s string) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.StringData(s)))
}

// Version is the library's version.
func Version() string {
	return C.GoString(C.atlock_version())
}
