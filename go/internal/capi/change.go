package capi

// #include <atlock.h>
import "C"

import (
	"errors"
	"runtime"
)

// CloseToReopen is Close for a program that opens stores again at once. The buffer has what CarryOn takes.
func (h *Handle) CloseToReopen() (Buffer, error) {
	carried, err := h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_close_to_reopen(h.handle, out, failure)
	})
	if h.host != nil {
		err = errors.Join(err, h.host.close())
	}
	return carried, err
}

// CarryOn lets the runs of another handle go on in this one.
func (h *Handle) CarryOn(carried []byte) error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_carry_on(h.handle, data(carried), C.size_t(len(carried)), failure)
	})
}

// NoteChange records a change of the program's stores.
func (h *Handle) NoteChange(change []byte) error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_note_change(h.handle, data(change), C.size_t(len(change)), failure)
	})
}

// CheckKeys looks whether the handle's stores could be opened again with the key of these settings.
func (h *Handle) CheckKeys(config []byte) error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_check_keys(h.handle, data(config), C.size_t(len(config)), failure)
	})
}
