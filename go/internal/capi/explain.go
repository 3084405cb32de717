package capi

// #include <atlock.h>
import "C"

// Freeze freezes locks.
func (h *Handle) Freeze(freeze []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_freeze(h.handle, data(freeze), C.size_t(len(freeze)), out, failure)
	})
}

// Thaw ends a freeze.
func (h *Handle) Thaw(id string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_thaw(h.handle, text(id), C.size_t(len(id)), out, failure)
	})
}

// Freezes reads the freezes that are not over.
func (h *Handle) Freezes() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_freezes(h.handle, out, failure) })
}

// Explain tells why a lock, or each lock of a pull, is as it is.
func (h *Handle) Explain(question []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_explain(h.handle, data(question), C.size_t(len(question)), out, failure)
	})
}

// Deadlocks reads the circles of pulls that wait for each other.
func (h *Handle) Deadlocks() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_deadlocks(h.handle, out, failure) })
}

// TellDeadlock marks people as told of a circle, and reads on which pulls they were not.
func (h *Handle) TellDeadlock(id string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_tell_deadlock(h.handle, text(id), C.size_t(len(id)), out, failure)
	})
}

// EndDeadlock ends a circle; the standings are a JSON array.
func (h *Handle) EndDeadlock(id string, standings []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_end_deadlock(h.handle, text(id), C.size_t(len(id)), data(standings), C.size_t(len(standings)), out, failure)
	})
}
