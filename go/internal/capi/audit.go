package capi

// #include <atlock.h>
import "C"

import "runtime"

// ActingAs is another handle on the same stores. The audit trail has the actor, as JSON, for what is changed by it.
func (h *Handle) ActingAs(actor []byte) (*Handle, error) {
	defer runtime.KeepAlive(h)
	return open(h.host, func(other *Handle, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_acting_as(h.handle, data(actor), C.size_t(len(actor)), &other.handle, failure)
	})
}

// Audit is an audit trail. Its methods may be called from any goroutine at once, but for Free.
type Audit struct{ handle *C.atlock_audit }

// OpenAudit opens the trail that the settings, as JSON, name; nil if they name none.
func OpenAudit(config []byte) (*Audit, error) {
	a := new(Audit)
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_audit_open(data(config), C.size_t(len(config)), &a.handle, failure)
	})
	if err != nil || a.handle == nil {
		return nil, err
	}
	return a, nil
}

// Record records an entry, as JSON.
func (a *Audit) Record(entry []byte) error {
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_audit_record(a.handle, data(entry), C.size_t(len(entry)), failure)
	})
}

// Status reads what is to be known of it.
func (a *Audit) Status() (Buffer, error) {
	var out Buffer
	err := check(func(failure *C.atlock_buffer) C.int32_t { return C.atlock_audit_status(a.handle, &out.buffer, failure) })
	return out, err
}

// Free closes it. Nobody else may use it meanwhile or later.
func (a *Audit) Free() { C.atlock_audit_free(a.handle) }
