// Package boltcheck tells whether a BoltDB file is whole enough to be opened, before bbolt maps it: bbolt believes what it maps, and
// a damaged page ends the process by a panic, or by a signal that nothing can recover from.
//
// Invariants:
//   - What [Check] admits bbolt can open, read and write without a panic or a fault: every page that can be reached from the newest
//     valid meta page is inside the file, says that it is this page, is reached once and is not free; each element lies inside its
//     page; keys are in order, and those of a branch are the first keys of its children.
//   - What bbolt writes is admitted.
//   - It reads by ordinary I/O, and keeps one bit for each page and the pages on the way from the root to one leaf.
//
// It does not tell whether the values are those that were written: bbolt has checksums of its meta pages only. Pages that are
// neither reached nor free harm nothing, and bbolt itself loses some.
//
// The format is that of go.etcd.io/bbolt v1.4.3: internal/common/{page,meta,bucket,inode}.go, internal/freelist/shared.go, and the
// choice of the meta page in db.go. The checks are those of its tx_check.go and more. Integers have the machine's byte order.
package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
)

const (
	magic       = 0xED0CDAED
	version     = 2
	noFreelist  = ^uint64(0)
	headerSize  = 16
	elementSize = 16 // of a branch and of a leaf
	bucketSize  = 16
	metaSize    = 64
	mostDepth   = 64

	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10
	bucketFlag   = 0x01

	smallestPage = 1 << 10
	largestPage  = 16 << 20
)

var order = binary.NativeEndian

// Check reads a file of this size. An empty one is new, and whole.
func Check(file io.ReaderAt, size int64) error {
	if size == 0 {
		return nil
	}
	meta, err := newestMeta(file, size)
	if err != nil {
		return err
	}
	if meta.pages > uint64(size)/meta.pageSize {
		return fmt.Errorf("it has %d bytes, but %d pages of %d bytes: it was cut short", size, meta.pages, meta.pageSize)
	}
	c := checker{file: file, meta: meta, used: make([]uint64, meta.pages/64+1)}
	if meta.freelist != noFreelist {
		if err := c.freelist(meta.freelist); err != nil {
			return err
		}
	}
	return c.bucket(meta.root, true)
}

// meta is what is needed of a meta page.
type meta struct {
	pageSize, root, freelist, pages, txid uint64
}

// newestMeta is the one that bbolt uses. The size of pages stands in it, so the second is looked for at every place that it can have.
func newestMeta(file io.ReaderAt, size int64) (meta, error) {
	first, firstErr := readMeta(file, 0)
	if firstErr == nil {
		second, err := readMeta(file, int64(first.pageSize))
		if err != nil || second.pageSize != first.pageSize || second.txid <= first.txid {
			return first, nil
		}
		return second, nil
	}
	for at := int64(smallestPage); at <= largestPage && at < size; at *= 2 {
		if second, err := readMeta(file, at); err == nil && second.pageSize == uint64(at) {
			return second, nil
		}
	}
	return meta{}, fmt.Errorf("it has no valid meta page: %w", firstErr)
}

func readMeta(file io.ReaderAt, at int64) (meta, error) {
	var page [headerSize + metaSize]byte
	if _, err := file.ReadAt(page[:], at); err != nil {
		return meta{}, fmt.Errorf("reading the meta page at %d: %w", at, err)
	}
	m := page[headerSize:]
	sum := fnv.New64a()
	sum.Write(m[:metaSize-8])
	switch {
	case order.Uint32(m) != magic:
		return meta{}, errors.New("it is not a BoltDB file")
	case order.Uint32(m[4:]) != version:
		return meta{}, fmt.Errorf("it has version %d, and %d is known", order.Uint32(m[4:]), version)
	case order.Uint64(m[56:]) != sum.Sum64():
		return meta{}, errors.New("the checksum is wrong")
	}
	read := meta{
		pageSize: uint64(order.Uint32(m[8:])), root: order.Uint64(m[16:]), freelist: order.Uint64(m[32:]),
		pages: order.Uint64(m[40:]), txid: order.Uint64(m[48:]),
	}
	if bits.OnesCount64(read.pageSize) != 1 || read.pageSize < smallestPage || read.pageSize > largestPage {
		return meta{}, fmt.Errorf("pages of %d bytes are not known", read.pageSize)
	}
	return read, nil
}

type checker struct {
	file io.ReaderAt
	meta meta
	used []uint64 // a bit for each page that is free, or was reached
}

// claim notes that pages are used, which nothing else may use.
func (c *checker) claim(first, count uint64) error {
	if first < 2 || first >= c.meta.pages || count > c.meta.pages-first {
		return fmt.Errorf("page %d and %d after it are not among its %d pages", first, count-1, c.meta.pages)
	}
	for id := first; id < first+count; id++ {
		if c.used[id/64]&(1<<(id%64)) != 0 {
			return fmt.Errorf("page %d is used twice, or used and free", id)
		}
		c.used[id/64] |= 1 << (id % 64)
	}
	return nil
}

// page is one page with those that it runs over to.
type page struct {
	id    uint64
	flags uint16
	count int
	bytes []byte
}

func (c *checker) read(id uint64) (page, error) {
	var header [headerSize]byte
	if id < 2 || id >= c.meta.pages {
		return page{}, fmt.Errorf("page %d is not among its %d pages", id, c.meta.pages)
	}
	at := int64(id * c.meta.pageSize)
	if _, err := c.file.ReadAt(header[:], at); err != nil {
		return page{}, fmt.Errorf("reading page %d: %w", id, err)
	}
	if found := order.Uint64(header[:]); found != id {
		return page{}, fmt.Errorf("page %d says that it is page %d", id, found)
	}
	run := uint64(order.Uint32(header[12:])) + 1
	if err := c.claim(id, run); err != nil {
		return page{}, err
	}
	content := make([]byte, run*c.meta.pageSize)
	if _, err := c.file.ReadAt(content, at); err != nil {
		return page{}, fmt.Errorf("reading page %d: %w", id, err)
	}
	return inMemory(id, content), nil
}

func inMemory(id uint64, bytes []byte) page {
	return page{id: id, flags: order.Uint16(bytes[8:]), count: int(order.Uint16(bytes[10:])), bytes: bytes}
}

func (c *checker) freelist(id uint64) error {
	p, err := c.read(id)
	if err != nil {
		return fmt.Errorf("the freelist: %w", err)
	}
	if p.flags != freelistFlag {
		return fmt.Errorf("page %d is not the freelist: its flags are %#x", id, p.flags)
	}
	ids, count := p.bytes[headerSize:], uint64(p.count)
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("the freelist on page %d has %d entries, more than there is room for", id, count)
	}
	for i := range count {
		if err := c.claim(order.Uint64(ids[i*8:]), 1); err != nil {
			return fmt.Errorf("the freelist: %w", err)
		}
	}
	return nil
}

// bucket checks the pages of one bucket. The outermost has nothing but buckets in it.
func (c *checker) bucket(root uint64, outermost bool) error {
	tree := tree{checker: c, outermost: outermost, leafDepth: -1}
	return tree.visit(root, nil, nil, 0)
}

type tree struct {
	*checker
	outermost bool
	leafDepth int // all leaves have the same; -1 before the first
}

// visit checks a page and all below it, whose keys begin with first and are below limit; nil for no bound.
func (t *tree) visit(id uint64, first, limit []byte, depth int) error {
	if depth > mostDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	p, err := t.read(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case branchFlag:
		return t.branch(p, first, limit, depth)
	case leafFlag:
		if t.leafDepth >= 0 && t.leafDepth != depth {
			return fmt.Errorf("page %d is a leaf at depth %d, where others are at %d", id, depth, t.leafDepth)
		}
		t.leafDepth = depth
		if p.count == 0 && depth > 0 {
			return fmt.Errorf("page %d has no elements", id)
		}
		return t.leaf(p, first, limit)
	default:
		return fmt.Errorf("page %d is neither a branch nor a leaf: its flags are %#x", id, p.flags)
	}
}

func (t *tree) branch(p page, first, limit []byte, depth int) error {
	if p.count == 0 {
		return fmt.Errorf("page %d has no elements", p.id)
	}
	keys := make([][]byte, p.count)
	for i := range keys {
		element, err := p.element(i)
		if err != nil {
			return err
		}
		if keys[i], err = p.data(i, order.Uint32(element), order.Uint32(element[4:])); err != nil {
			return err
		}
	}
	if err := p.inOrder(keys, first, limit); err != nil {
		return err
	}
	for i, key := range keys {
		end := limit
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		element, err := p.element(i)
		if err != nil {
			return err
		}
		if err := t.visit(order.Uint64(element[8:]), key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) leaf(p page, first, limit []byte) error {
	keys := make([][]byte, p.count)
	for i := range keys {
		element, err := p.element(i)
		if err != nil {
			return err
		}
		flags, at, keySize, valueSize := order.Uint32(element), order.Uint32(element[4:]), order.Uint32(element[8:]), order.Uint32(element[12:])
		if keys[i], err = p.data(i, at, keySize); err != nil {
			return err
		}
		value, err := p.data(i, at+keySize, valueSize)
		if err != nil || at+keySize < at {
			return errors.Join(err, fmt.Errorf("element %d of page %d is not inside of it", i, p.id))
		}
		switch {
		case flags == bucketFlag:
			err = t.nested(p, i, value)
		case flags != 0 || t.outermost:
			err = fmt.Errorf("element %d of page %d has flags %#x", i, p.id, flags)
		}
		if err != nil {
			return err
		}
	}
	return p.inOrder(keys, first, limit)
}

// nested checks the bucket that an element is: elsewhere, or in the element.
func (t *tree) nested(p page, i int, value []byte) error {
	if len(value) < bucketSize || p.id == inlineID {
		return fmt.Errorf("element %d of page %d is no bucket", i, p.id)
	}
	if root := order.Uint64(value); root != inlineID {
		return t.bucket(root, false)
	}
	if value = value[bucketSize:]; len(value) < headerSize {
		return fmt.Errorf("element %d of page %d is a bucket without a page", i, p.id)
	}
	inline := inMemory(inlineID, value)
	if inline.flags != leafFlag {
		return fmt.Errorf("element %d of page %d is a bucket whose page has flags %#x", i, p.id, inline.flags)
	}
	return (&tree{checker: t.checker}).leaf(inline, nil, nil)
}

// inlineID stands for a page that is in an element of another: bbolt has no name for it.
const inlineID = 0

// element is the header of the i-th one.
func (p page) element(i int) ([]byte, error) {
	at := headerSize + i*elementSize
	if at+elementSize > len(p.bytes) {
		return nil, fmt.Errorf("page %d has %d elements, more than there is room for", p.id, p.count)
	}
	return p.bytes[at : at+elementSize], nil
}

// data is so many bytes of a page, from a place that counts from the header of the i-th element.
func (p page) data(i int, at, size uint32) ([]byte, error) {
	begin := uint64(headerSize+i*elementSize) + uint64(at)
	end := begin + uint64(size)
	if begin < uint64(headerSize+p.count*elementSize) || end > uint64(len(p.bytes)) {
		return nil, fmt.Errorf("element %d of page %d is not inside of it", i, p.id)
	}
	return p.bytes[begin:end], nil
}

// inOrder tells whether the keys of a page are not empty, grow, begin with first, and end below limit.
func (p page) inOrder(keys [][]byte, first, limit []byte) error {
	for i, key := range keys {
		isFirst := i > 0 || first == nil || bytes.Equal(key, first)
		grows := i == 0 || bytes.Compare(keys[i-1], key) < 0
		if len(key) == 0 || !isFirst || !grows || (limit != nil && bytes.Compare(key, limit) >= 0) {
			return fmt.Errorf("the key of element %d of page %d is out of order", i, p.id)
		}
	}
	return nil
}
