// Command cshared is package bolthost as a C shared library: the tests in Rust load it, and run over Atlantis's BoltDB file what they
// run over the embedded store. It is built by them (tests/hybrid_support/boltdb.rs).
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../../../../include -DATLOCK_NO_DEFAULT_INSTANCE
#include "glue.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"

	"github.com/atlock/atlock/go/internal/bolthost"
)

func main() {}

//export bolthostOpen
func bolthostOpen(folder *C.char, failure *C.atlock_buffer) C.uintptr_t {
	store, err := bolthost.Open(C.GoString(folder))
	return opened(store, err, failure)
}

//export bolthostOpenFile
func bolthostOpenFile(path *C.char, access C.uint32_t, failure *C.atlock_buffer) C.uintptr_t {
	store, err := bolthost.OpenFile(C.GoString(path), access == C.ATLOCK_FILE_CHANGE)
	return opened(store, err, failure)
}

func opened(store bolthost.Host, err error, failure *C.atlock_buffer) C.uintptr_t {
	if err != nil {
		answer(failure, []byte(err.Error()))
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(store))
}

//export bolthostCall
func bolthostCall(store C.uintptr_t, op C.uint32_t, input *C.uint8_t, inputLen C.size_t, output, failure *C.atlock_buffer) C.int32_t {
	file := cgo.Handle(store).Value().(bolthost.Host)
	told, err := file.Call(uint32(op), unsafe.Slice((*byte)(unsafe.Pointer(input)), int(inputLen)))
	if err != nil {
		answer(failure, []byte(err.Error()))
		return 1
	}
	answer(output, told)
	return C.ATLOCK_OK
}

//export bolthostRelease
func bolthostRelease(store C.uintptr_t) {
	handle := cgo.Handle(store)
	if err := handle.Value().(bolthost.Host).Close(); err != nil {
		panic(err) // a test's file
	}
	handle.Delete()
}

func answer(buffer *C.atlock_buffer, text []byte) {
	C.bolthost_assign(buffer, (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(text))), C.size_t(len(text)))
}
