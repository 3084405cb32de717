package capi

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atlock/atlock/go/internal/hostop"
)

var boltDB = []byte(`{"locking":{"backend":"boltdb"}}`)

// fakeHost answers with one function.
type fakeHost struct {
	answer func(op uint32, input string) (string, error)
	closed atomic.Int32
	fails  error
}

func (f *fakeHost) Call(op uint32, input []byte) ([]byte, error) {
	output, err := f.answer(op, string(input))
	return []byte(output), err
}

func (f *fakeHost) Close() error {
	f.closed.Add(1)
	return f.fails
}

func TestHostStoreIsCalled(t *testing.T) {
	host := &fakeHost{answer: func(op uint32, input string) (string, error) {
		if op != hostop.Get || input != `{"key":{"command":"apply"}}` {
			t.Errorf("op %d: %s", op, input)
		}
		return `{"who":"\u00e9 é"}`, nil
	}}
	handle, err := OpenWithHost(boltDB, host)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := handle.CheckCommandLock("apply")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(answer.Bytes()); got != `{"who":"\u00e9 é"}` {
		t.Errorf("got %s", got)
	}
	answer.Free()
	if err := errors.Join(handle.Close(), handle.Close()); err != nil {
		t.Error(err)
	}
	if err := handle.Ping(); !errors.Is(err, Closed) {
		t.Errorf("after Close: %v", err)
	}
	if closed := host.closed.Load(); closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

// A callback runs on the goroutine that called the library, and may need a larger stack: where its arguments were on the old one,
// the answers still arrive.
func TestHostStoreMayGrowTheStack(t *testing.T) {
	var deep func(levels int) int
	deep = func(levels int) int {
		var frame [256]byte
		if levels == 0 {
			return len(frame)
		}
		return deep(levels-1) + int(frame[levels%len(frame)])
	}
	host := &fakeHost{answer: func(uint32, string) (string, error) {
		deep(2000)
		runtime.GC()
		return `{"x":1}`, nil
	}}
	handle, err := OpenWithHost(boltDB, host)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	for range 20 {
		done := make(chan string)
		go func() {
			answer, err := handle.CheckCommandLock("apply")
			if err != nil {
				done <- err.Error()
				return
			}
			defer answer.Free()
			done <- string(answer.Bytes())
		}()
		if got := <-done; got != `{"x":1}` {
			t.Fatalf("got %s", got)
		}
	}
}

func TestHostStoreFailures(t *testing.T) {
	host := &fakeHost{}
	handle, err := OpenWithHost(boltDB, host)
	if err != nil {
		t.Fatal(err)
	}
	host.answer = func(uint32, string) (string, error) { return "", errors.New("the disk is ☃ frozen") }
	if err := handle.Ping(); !errors.Is(err, HostStore) || !strings.Contains(err.Error(), "the disk is ☃ frozen") {
		t.Errorf("an error: %v", err)
	}
	host.answer = func(uint32, string) (string, error) { panic("data changing underfoot") }
	if err := handle.Ping(); !errors.Is(err, HostStore) || !strings.Contains(err.Error(), "data changing underfoot") {
		t.Errorf("a panic: %v", err)
	}
	host.fails = errors.New("cannot close")
	if err := handle.Close(); !errors.Is(err, host.fails) {
		t.Errorf("Close: %v", err)
	}
}

func TestHostStoreIsClosedWhenOpeningFails(t *testing.T) {
	host := &fakeHost{}
	if _, err := OpenWithHost([]byte(`{"x":1}`), host); !errors.Is(err, InvalidConfig) {
		t.Errorf("got %v", err)
	}
	if closed := host.closed.Load(); closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

// Nobody closes it, so the collector does.
func TestHostStoreOfAForgottenHandleIsClosed(t *testing.T) {
	host := &fakeHost{}
	if _, err := OpenWithHost(boltDB, host); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		runtime.GC()
		if host.closed.Load() == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it is still open")
}

// A call that does not end keeps Close from nothing but closing the host store, which is done when the library lets go of it.
func TestHostStoreThatHangsDoesNotHoldUpClose(t *testing.T) {
	hangs, entered := make(chan struct{}), make(chan struct{})
	host := &fakeHost{answer: func(uint32, string) (string, error) {
		close(entered)
		<-hangs
		return `{"x":1}`, nil
	}}
	guarded := &guardedHost{store: host}
	done := make(chan error)
	go func() {
		_, err := guarded.call(hostop.Get, nil)
		done <- err
	}()
	<-entered
	if err := guarded.close(); !errors.Is(err, errHostBusy) {
		t.Errorf("got %v", err)
	}
	if closed := host.closed.Load(); closed != 0 {
		t.Errorf("closed %d times during a call", closed)
	}
	close(hangs)
	if err := errors.Join(<-done, guarded.close(), guarded.close()); err != nil {
		t.Error(err)
	}
	if closed := host.closed.Load(); closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}
