package capi

// #include "host.h"
import "C"

import (
	"encoding/json"
	"runtime/cgo"
	"unsafe"
)

// Files opens a host store in a file, to look at it or to change it. It is called by one goroutine at a time; each Host is closed.
type Files func(path string, change bool) (Host, error)

// MigrationCommand runs a command line, the words behind the program's name: its exit status, and what belongs on stdout and on stderr.
func MigrationCommand(args []string, files Files) (status int, out, remarks Buffer, err error) {
	words, err := json.Marshal(args)
	if err != nil {
		return 0, Buffer{}, Buffer{}, err
	}
	reference := cgo.NewHandle(files)
	defer reference.Delete()
	var code C.int32_t
	err = check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_go_migration_command(data(words), C.size_t(len(words)), C.uintptr_t(reference), &code, &out.buffer, &remarks.buffer, failure)
	})
	return int(code), out, remarks, err
}

//export atlockGoFilesOpen
func atlockGoFilesOpen(files C.uintptr_t, path *C.uint8_t, pathLen C.size_t, access C.uint32_t, failure *C.atlock_buffer) C.uintptr_t {
	open := cgo.Handle(files).Value().(Files)
	host, err := opened(open, C.GoStringN((*C.char)(unsafe.Pointer(path)), C.int(pathLen)), access == C.ATLOCK_FILE_CHANGE)
	if err != nil {
		message := err.Error()
		C.atlock_buffer_assign(failure, text(message), C.size_t(len(message)))
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(&guardedHost{store: host})) // deleted by atlockGoHostRelease
}

func opened(open Files, path string, change bool) (host Host, err error) {
	defer recoverAs(&err)
	return open(path, change)
}
