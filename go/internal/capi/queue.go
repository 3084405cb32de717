package capi

// #include <atlock.h>
import "C"

import "runtime"

// Lock takes a lock, and waits for it. It blocks the thread.
func (h *Handle) Lock(lock, options []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_lock(h.handle, data(lock), C.size_t(len(lock)), data(options), C.size_t(len(options)), out, failure)
	})
}

// LockSet takes all of these locks, a JSON array, or none newly, and waits for them. It blocks the thread.
func (h *Handle) LockSet(locks, options []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_lock_set(h.handle, data(locks), C.size_t(len(locks)), data(options), C.size_t(len(options)), out, failure)
	})
}

// Cancel ends the wait of this name, also one that begins only afterwards.
func (h *Handle) Cancel(name string) error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_cancel(h.handle, text(name), C.size_t(len(name)), failure)
	})
}

// RunBegin begins a run and returns its number.
func (h *Handle) RunBegin(request []byte) (uint64, error) {
	return h.number(func(out *C.uint64_t, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_run_begin(h.handle, data(request), C.size_t(len(request)), out, failure)
	})
}

// RunDeclare tells which locks, a JSON array, a run is going to take.
func (h *Handle) RunDeclare(run uint64, locks []byte) error {
	defer runtime.KeepAlive(h)
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_run_declare(h.handle, C.uint64_t(run), data(locks), C.size_t(len(locks)), failure)
	})
}

// TryLockIn takes a lock inside a run if it is free.
func (h *Handle) TryLockIn(run uint64, lock []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_try_lock_in(h.handle, C.uint64_t(run), data(lock), C.size_t(len(lock)), out, failure)
	})
}

// RunEnd ends a run.
func (h *Handle) RunEnd(run uint64) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_run_end(h.handle, C.uint64_t(run), out, failure)
	})
}

// Next tells whose turn it is. It blocks the thread for as long as the request says.
func (h *Handle) Next(request []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_next(h.handle, data(request), C.size_t(len(request)), out, failure)
	})
}

// Position tells the place of a pull among those who wait for a lock.
func (h *Handle) Position(request []byte) (uint64, error) {
	return h.number(func(out *C.uint64_t, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_position(h.handle, data(request), C.size_t(len(request)), out, failure)
	})
}

// Queues tells who waits in a repository, or without a name in each.
func (h *Handle) Queues(repo string) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_queues(h.handle, text(repo), C.size_t(len(repo)), out, failure)
	})
}

// Leave takes a pull out of a queue and tells for how many locks it waited.
func (h *Handle) Leave(request []byte) (uint64, error) {
	return h.number(func(out *C.uint64_t, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_leave(h.handle, data(request), C.size_t(len(request)), out, failure)
	})
}

// Check tells whether a grant still stands.
func (h *Handle) Check(request []byte) (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_check(h.handle, data(request), C.size_t(len(request)), out, failure)
	})
}

// Stats reads what was counted of waiting and holding.
func (h *Handle) Stats() (Buffer, error) {
	return h.output(func(out, failure *C.atlock_buffer) C.int32_t { return C.atlock_stats(h.handle, out, failure) })
}

func (h *Handle) number(call func(out *C.uint64_t, failure *C.atlock_buffer) C.int32_t) (uint64, error) {
	defer runtime.KeepAlive(h)
	var out C.uint64_t
	err := check(func(failure *C.atlock_buffer) C.int32_t { return call(&out, failure) })
	return uint64(out), err
}
