// Package hostop names the operations of a host store (docs/host-store.md). The numbers are those of atlock.h, by name, so that none
// can differ; nothing of the library is linked.
package hostop

/*
#cgo CFLAGS: -I${SRCDIR}/../capi -I${SRCDIR}/../../../include -DATLOCK_NO_DEFAULT_INSTANCE
#include <atlock.h>
*/
import "C"

// The operations.
const (
	Grant          = uint32(C.ATLOCK_OP_GRANT)
	Release        = uint32(C.ATLOCK_OP_RELEASE)
	Discard        = uint32(C.ATLOCK_OP_DISCARD)
	Get            = uint32(C.ATLOCK_OP_GET)
	List           = uint32(C.ATLOCK_OP_LIST)
	ReleaseByPull  = uint32(C.ATLOCK_OP_RELEASE_BY_PULL)
	PullStatus     = uint32(C.ATLOCK_OP_PULL_STATUS)
	SwapPullStatus = uint32(C.ATLOCK_OP_SWAP_PULL_STATUS)
	Ping           = uint32(C.ATLOCK_OP_PING)
	Dump           = uint32(C.ATLOCK_OP_DUMP)
	Apply          = uint32(C.ATLOCK_OP_APPLY)
	Migration      = uint32(C.ATLOCK_OP_MIGRATION)
)
