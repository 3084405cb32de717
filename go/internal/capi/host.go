package capi

// #include "host.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// Host is a store that the program brings along; docs/host-store.md describes the operations, package hostop names them. Call comes from any
// goroutine, from several at once; input is valid during the call only. Close comes once, after the last Call.
type Host interface {
	Call(op uint32, input []byte) ([]byte, error)
	Close() error
}

// OpenWithHost opens the stores that the settings name, with host as the legacy store of `locking.backend: boltdb`. It is closed
// with the Handle, or before this returns an error.
func OpenWithHost(config []byte, host Host) (*Handle, error) {
	guarded := &guardedHost{store: host}
	reference := cgo.NewHandle(guarded) // deleted by atlockGoHostRelease, which the library calls in any case
	return open(guarded, func(h *Handle, failure *C.atlock_buffer) C.int32_t {
		return C.atlock_go_open(data(config), C.size_t(len(config)), C.uintptr_t(reference), &h.handle, failure)
	})
}

// guardedHost keeps a host store's panics from crossing C, and closes it once: when the Handle is closed, so that its files are
// free then, or else when the library releases it, after the last call.
type guardedHost struct {
	store  Host
	open   sync.RWMutex // held for reading by each call
	closed bool
}

var errHostClosed = errors.New("the host store is closed")

func (g *guardedHost) call(op uint32, input []byte) (output []byte, err error) {
	g.open.RLock()
	defer g.open.RUnlock()
	if g.closed {
		return nil, errHostClosed
	}
	defer recoverAs(&err)
	return g.store.Call(op, input)
}

// errHostBusy is of a host store whose call does not end. It is closed by atlockGoHostRelease when it has.
var errHostBusy = errors.New("the host store is still in a call, and stays open until that ends")

const closePatience = 2 * time.Second

func (g *guardedHost) close() (err error) {
	for deadline := time.Now().Add(closePatience); !g.open.TryLock(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errHostBusy
		}
	}
	defer g.open.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	defer recoverAs(&err)
	return g.store.Close()
}

func recoverAs(err *error) {
	if panicked := recover(); panicked != nil {
		*err = fmt.Errorf("the host store panicked: %v", panicked)
	}
}

//export atlockGoHostCall
func atlockGoHostCall(host C.uintptr_t, op C.uint32_t, input *C.uint8_t, inputLen C.size_t, output, failure *C.atlock_buffer) C.int32_t {
	guarded := cgo.Handle(host).Value().(*guardedHost)
	answer, err := guarded.call(uint32(op), unsafe.Slice((*byte)(unsafe.Pointer(input)), int(inputLen)))
	if err != nil {
		message := err.Error()
		C.atlock_buffer_assign(failure, text(message), C.size_t(len(message)))
		return 1
	}
	C.atlock_buffer_assign(output, data(answer), C.size_t(len(answer)))
	return C.ATLOCK_OK
}

//export atlockGoHostRelease
func atlockGoHostRelease(host C.uintptr_t) {
	reference := cgo.Handle(host)
	// Its error, if any, has nowhere to go: Handle.Close is the place to hear of it.
	_ = reference.Value().(*guardedHost).close()
	reference.Delete()
}
