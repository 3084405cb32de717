package boltcheck

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

func check(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return Check(file, info.Size())
}

// churn is one random transaction, nested buckets and long values included.
func churn(random *rand.Rand) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte(fmt.Sprintf("bucket %d", random.IntN(3))))
		if err != nil {
			return err
		}
		if random.IntN(4) == 0 {
			if bucket, err = bucket.CreateBucketIfNotExists([]byte(fmt.Sprintf("nested %d", random.IntN(2)))); err != nil {
				return err
			}
		}
		from, span := random.IntN(400), 1+random.IntN(120)
		deletes := random.IntN(2) == 0
		for i := range span {
			key := []byte(fmt.Sprintf("key %0*d", 3+random.IntN(40), from+i))
			if deletes {
				if random.IntN(3) == 0 {
					key, _ = bucket.Cursor().Seek([]byte("key "))
				}
				if value := bucket.Get(key); key == nil || value == nil {
					continue
				}
				err = bucket.Delete(bytes.Clone(key))
			} else {
				size := random.IntN(600)
				if random.IntN(60) == 0 {
					size = random.IntN(20000)
				}
				err = bucket.Put(key, bytes.Repeat([]byte{'v'}, size))
			}
			if err != nil {
				return err
			}
		}
		if random.IntN(40) == 0 {
			return tx.DeleteBucket([]byte(fmt.Sprintf("bucket %d", random.IntN(3))))
		}
		return nil
	}
}

// TestWhatBoltWritesIsWhole makes files by random transactions, each of which must be admitted, and found whole by bbolt too.
func TestWhatBoltWritesIsWhole(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "db")
		options := &bolt.Options{PageSize: []int{1024, 4096, 16384}[seed%3], NoSync: true, NoFreelistSync: seed%4 == 3}
		if seed%2 == 1 {
			options.FreelistType = bolt.FreelistMapType
		}
		db, err := bolt.Open(path, 0o600, options)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 150 {
			if err := db.Update(churn(random)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
				t.Fatal(err)
			}
			if err := check(path); err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
		}
		err = db.View(func(tx *bolt.Tx) (err error) {
			for found := range tx.Check() {
				// bbolt itself loses pages now and then; that harms nothing.
				if !strings.Contains(found.Error(), "unreachable unfreed") {
					err = errors.Join(err, found)
				}
			}
			return err
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// file is one as Atlantis has it, with so many locks.
func file(t testing.TB, locks int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "atlantis.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	put := func(bucket string, from, to int) func(tx *bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			for i := from; i < to && err == nil; i++ {
				err = b.Put([]byte(fmt.Sprintf("acme/infra/project%d/default/", i)), bytes.Repeat([]byte("x"), 1100))
			}
			return err
		}
	}
	// In several transactions, so that there are free pages.
	for i := range 10 {
		if err := db.Update(put("runLocks", i*locks/10, (i+1)*locks/10)); err != nil {
			t.Fatal(err)
		}
	}
	inline := func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("small"))
		return errors.Join(err, b.Put([]byte("key"), []byte("value")))
	}
	if err := errors.Join(db.Update(put("globalLocks", 0, 1)), db.Update(put("pulls", 0, locks/10)), db.Update(inline), db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTenThousandLocksAreCheckedInNoTime(t *testing.T) {
	path := file(t, 10_000)
	start := time.Now()
	if err := check(path); err != nil {
		t.Error(err)
	}
	info, _ := os.Stat(path)
	t.Logf("%d bytes: %v", info.Size(), time.Since(start))
}

func TestWhatIsNoFileOfBolt(t *testing.T) {
	whole, err := os.ReadFile(file(t, 30))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{[]byte("x"), bytes.Repeat([]byte("text"), 5000), make([]byte, 32768), whole[:8192], whole[:len(whole)/2]} {
		if err := Check(bytes.NewReader(content), int64(len(content))); err == nil {
			t.Errorf("%d bytes are taken for a file", len(content))
		}
	}
	// One torn meta page is what a crash leaves; bbolt takes the other.
	for _, at := range []int{40, 4096 + 40} {
		torn := bytes.Clone(whole)
		torn[at]++
		if err := Check(bytes.NewReader(torn), int64(len(torn))); err != nil {
			t.Errorf("a torn meta page at %d: %v", at, err)
		}
	}
	if err := Check(bytes.NewReader(nil), 0); err != nil {
		t.Error(err)
	}
}

// image is a file in memory, with what its newest meta page says.
type image struct {
	bytes []byte
	meta  meta
}

func (i image) page(id uint64) []byte { return i.bytes[id*i.meta.pageSize : (id+1)*i.meta.pageSize] }

// setMeta changes a field of the newest meta page, and its checksum.
func (i image) setMeta(offset int, value uint64) {
	m := i.page(i.meta.txid % 2)[headerSize:]
	order.PutUint64(m[offset:], value)
	sum := fnv.New64a()
	sum.Write(m[:metaSize-8])
	order.PutUint64(m[56:], sum.Sum64())
}

// branch is the root page of the bucket with the locks; element is the i-th of it.
func (i image) branch(t *testing.T) []byte {
	root := i.page(i.meta.root)
	at := bytes.Index(root, []byte("runLocks"))
	page := i.page(order.Uint64(root[at+len("runLocks"):]))
	if order.Uint16(page[8:]) != branchFlag {
		t.Fatal("the bucket is small")
	}
	return page
}

func TestEachKindOfDamageIsRefused(t *testing.T) {
	whole, err := os.ReadFile(file(t, 300))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		damage func(t *testing.T, i image)
	}{
		{"it was cut short", func(_ *testing.T, i image) { i.setMeta(40, uint64(len(i.bytes))) }},
		{"is not among its", func(_ *testing.T, i image) { i.setMeta(16, i.meta.pages) }},
		{"is not among its", func(_ *testing.T, i image) { i.setMeta(16, 1) }},
		{"is not among its", func(_ *testing.T, i image) { i.setMeta(32, i.meta.pages+1) }},
		{"no valid meta page", func(_ *testing.T, i image) { i.page(0)[headerSize+40]++; i.page(1)[headerSize+40]++ }},
		{"is not the freelist", func(_ *testing.T, i image) { i.page(i.meta.freelist)[8] = leafFlag }},
		{"more than there is room for", func(_ *testing.T, i image) { order.PutUint16(i.page(i.meta.freelist)[10:], 0xFFFE) }},
		{"used twice, or used and free", func(_ *testing.T, i image) { order.PutUint64(i.page(i.meta.freelist)[headerSize:], i.meta.root) }},
		{"used twice, or used and free", func(_ *testing.T, i image) {
			ids := i.page(i.meta.freelist)[headerSize:]
			copy(ids[8:16], ids[:8])
		}},
		{"are not among its", func(_ *testing.T, i image) { order.PutUint64(i.page(i.meta.freelist)[headerSize:], 1) }},
		{"says that it is page", func(_ *testing.T, i image) { i.page(i.meta.root)[0]++ }},
		{"are not among its", func(_ *testing.T, i image) { i.page(i.meta.root)[15] = 1 }},
		{"neither a branch nor a leaf", func(_ *testing.T, i image) { i.page(i.meta.root)[8] = freelistFlag }},
		{"has flags", func(_ *testing.T, i image) { i.page(i.meta.root)[headerSize] = 0 }},
		{"has no elements", func(t *testing.T, i image) { order.PutUint16(i.branch(t)[10:], 0) }},
		{"is not inside of it", func(t *testing.T, i image) { order.PutUint16(i.branch(t)[10:], 0xFFFF) }},
		{"is not inside of it", func(t *testing.T, i image) { order.PutUint32(i.branch(t)[headerSize+4:], 1<<20) }},
		{"is not inside of it", func(t *testing.T, i image) { order.PutUint32(i.branch(t)[headerSize:], 0) }},
		{"out of order", func(t *testing.T, i image) { // a branch's key is not its child's
			page := i.branch(t)
			page[bytes.Index(page, []byte("acme"))]--
		}},
		{"out of order", func(t *testing.T, i image) { // an empty key
			order.PutUint32(i.branch(t)[headerSize+4:], 0)
		}},
		{"whose page has flags", func(_ *testing.T, i image) {
			page := i.page(i.meta.root)
			page[bytes.Index(page, []byte("small"))+len("small")+bucketSize+8] = branchFlag
		}},
		{"is no bucket", func(_ *testing.T, i image) { // in a bucket that is in its element
			page := i.page(i.meta.root)
			page[bytes.Index(page, []byte("small"))+len("small")+bucketSize+headerSize] = bucketFlag
		}},
	} {
		meta, err := newestMeta(bytes.NewReader(whole), int64(len(whole)))
		if err != nil {
			t.Fatal(err)
		}
		damaged := image{bytes.Clone(whole), meta}
		c.damage(t, damaged)
		err = Check(bytes.NewReader(damaged.bytes), int64(len(whole)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.want, err)
		}
	}
}

const (
	cases   = 2000
	perTry  = 250
	caseVar = "ATLOCK_BOLTCHECK_CASES"
)

// damage changes a file as a seed says.
func damage(whole []byte, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 2))
	damaged := bytes.Clone(whole)
	const page = 4096
	pages := len(damaged) / page
	for range 1 + random.IntN(3) {
		at := random.IntN(pages) * page
		switch random.IntN(8) {
		case 0: // a page of another file, or never written
			clear(damaged[at : at+page])
		case 1: // cut short
			damaged = damaged[:random.IntN(len(damaged)-2*page)+2*page]
			pages = len(damaged) / page
		case 2: // a page in the place of another
			from := random.IntN(pages) * page
			copy(damaged[at:at+page], damaged[from:from+page])
		case 3: // noise
			for i := range 64 {
				damaged[at+random.IntN(page/64)*64+i%64] = byte(random.Uint32())
			}
		case 4, 5: // in a page's header, or its first elements
			damaged[at+random.IntN(64)] ^= 1 << random.IntN(8)
		default: // anywhere
			damaged[at+random.IntN(page)] ^= 1 << random.IntN(8)
		}
	}
	return damaged
}

// TestWhatIsAdmittedCanBeUsed damages a file in 2,000 ways. Each must be refused, or opening, reading everything and writing must work.
// bbolt does not survive what is admitted wrongly, so it runs in processes of their own.
func TestWhatIsAdmittedCanBeUsed(t *testing.T) {
	if spec := os.Getenv(caseVar); spec != "" {
		path, first, _ := strings.Cut(spec, ",")
		useDamaged(t, path, first)
		return
	}
	path := file(t, 300)
	admitted := 0
	for first := 0; first < cases; first += perTry {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWhatIsAdmittedCanBeUsed$", "-test.v")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d", caseVar, path, first))
		output, err := child.CombinedOutput()
		admitted += bytes.Count(output, []byte("\nadmitted "))
		if err != nil {
			tail := output
			if begun := bytes.LastIndex(output, []byte("\nadmitted ")); begun >= 0 {
				tail = output[begun:min(len(output), begun+3000)]
			}
			t.Fatalf("cases from %d: %v\n%s", first, err, tail)
		}
	}
	t.Logf("%d of %d admitted", admitted, cases)
	if admitted < cases/20 {
		t.Errorf("only %d of %d files were admitted: hardly any was used", admitted, cases)
	}
}

func useDamaged(t *testing.T, path, first string) {
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "atlantis.db")
	for seed := begin; seed < begin+perTry; seed++ {
		if err := os.WriteFile(target, damage(whole, seed), 0o600); err != nil {
			t.Fatal(err)
		}
		if check(target) != nil {
			continue
		}
		fmt.Printf("\nadmitted %d\n", seed)
		if err := use(target); err != nil {
			t.Errorf("case %d: %v", seed, err)
		}
	}
}

// use reads everything, and writes into each bucket.
func use(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	sum := 0
	read := func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
			return bucket.ForEach(func(key, value []byte) error {
				for _, b := range value {
					sum += int(b)
				}
				sum += len(key)
				return nil
			})
		})
	}
	write := func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
			key, _ := bucket.Cursor().Last()
			return errors.Join(bucket.Put([]byte("a new one"), make([]byte, 3000)), bucket.Put(append(bytes.Clone(key), '2'), make([]byte, 3000)))
		})
	}
	return errors.Join(db.View(read), db.Update(write), db.View(read), db.Update(write), db.Close())
}
