package capi

// #include <atlock.h>
import "C"

import "unsafe"

// Buffer is memory of the library. Free it once; the zero Buffer need not be freed.
type Buffer struct {
	buffer C.atlock_buffer
}

// Bytes returns the buffer's bytes without copying them. They are gone after Free.
func (b *Buffer) Bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(b.buffer.data)), int(b.buffer.len))
}

// Free returns the memory and empties the buffer.
func (b *Buffer) Free() {
	if b.buffer.data != nil {
		C.atlock_buffer_free(&b.buffer)
	}
}

// Listing is a list of locks in memory of the library. Free it once.
type Listing struct {
	json  Buffer
	spans C.atlock_spans
}

// Len tells how many locks there are.
func (l *Listing) Len() int {
	return int(l.spans.len)
}

// Lock returns the JSON of lock i without copying it. It is gone after Free.
func (l *Listing) Lock(i int) []byte {
	span := unsafe.Slice(l.spans.data, l.Len())[i]
	return l.json.Bytes()[span.start:span.end]
}

// Rest returns the JSON that follows the locks: `],"unreadable":[…]}`.
func (l *Listing) Rest() []byte {
	if l.Len() == 0 {
		return l.json.Bytes()
	}
	last := unsafe.Slice(l.spans.data, l.Len())[l.Len()-1]
	return l.json.Bytes()[last.end:]
}

// Free returns the memory and empties the listing.
func (l *Listing) Free() {
	l.json.Free()
	C.atlock_spans_free(&l.spans)
}
