package capi

import (
	"errors"
	"fmt"
	"testing"
)

// Go looks at every pointer on a stack that it moves, and aborts the process ("invalid pointer found on stack") on a small number in the
// place of one, such as Rust has in an empty vector: an answer without content must be null.
func TestEmptyAnswersPointNowhere(t *testing.T) {
	handle, err := Open(fmt.Appendf(nil, `{"locking":{"backend":"sled","data_dir":%q}}`, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	list, errList := handle.List()
	defer list.Free()
	released, errReleased := handle.UnlockByPull("acme/infra", 1)
	defer released.Free()
	status, errStatus := handle.PullStatus("host::acme/infra::1")
	defer status.Free()
	if err := errors.Join(errList, errReleased, errStatus); err != nil {
		t.Fatal(err)
	}
	if list.spans.data != nil || released.spans.data != nil || !status.IsNull() {
		t.Errorf("addresses %p, %p, %p", list.spans.data, released.spans.data, status.buffer.data)
	}
}
