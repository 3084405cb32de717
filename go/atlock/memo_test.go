package atlock

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

func lockText(t *testing.T, lock models.ProjectLock) []byte {
	t.Helper()
	text, err := json.Marshal(lock)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What a lock is made of can be copied by assignment, but for what copied knows.
func TestALockIsCopiedWhole(t *testing.T) {
	var shared []string
	var look func(at string, kind reflect.Type)
	look = func(at string, kind reflect.Type) {
		switch kind.Kind() {
		case reflect.Struct:
			if kind == reflect.TypeFor[time.Time]() {
				return // nobody can write to it
			}
			for i := range kind.NumField() {
				look(at+"."+kind.Field(i).Name, kind.Field(i).Type)
			}
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func:
			shared = append(shared, at)
		}
	}
	look("", reflect.TypeFor[models.ProjectLock]())
	if len(shared) != 1 || shared[0] != ".User.Teams" {
		t.Errorf("copied copies only .User.Teams, and a lock shares %v", shared)
	}
}

func TestMemoAnswersAsTheDecoderDoes(t *testing.T) {
	m := new(memo)
	lock := benchmarkLock()
	lock.User.Teams = []string{"a", "b"}
	for range 3 {
		for _, text := range [][]byte{
			lockText(t, lock), []byte(`{}`), []byte(`{"Workspace":"w","Unknown":1}`), []byte(`{"Workspace":7}`), nil, []byte(`{"User":{"Teams":[]}}`),
		} {
			var want, got models.ProjectLock
			wantErr, gotErr := decode(text, &want), m.decodeLock(text, &got)
			if (wantErr == nil) != (gotErr == nil) {
				t.Fatalf("%s: %v, by the memo %v", text, wantErr, gotErr)
			}
			if wantErr == nil && !reflect.DeepEqual(want, got) {
				t.Errorf("%s: %#v, by the memo %#v", text, want, got)
			}
			// What an owner does with an answer is seen in no other one.
			for i := range got.User.Teams {
				got.User.Teams[i] = "changed"
			}
			for i := range text {
				text[i] = 'x'
			}
		}
	}
}

// A text with the hash of another one is not taken for that.
func TestMemoComparesTheText(t *testing.T) {
	m := &memo{young: map[uint64]*memorized{7: {text: "other", lock: benchmarkLock()}}}
	if found := m.find(7, []byte("this")); found != nil {
		t.Errorf("found %q", found.text)
	}
	if found := m.find(7, []byte("other")); found == nil {
		t.Error("found nothing")
	}
}

func TestMemoIsBoundedAndForgets(t *testing.T) {
	m := &memo{aging: true} // by this test alone
	lock := benchmarkLock()
	size := func() int { return len(m.young) + len(m.old) }
	for i := range 40_000 {
		lock.Pull.Num = i
		var got models.ProjectLock
		if err := m.decodeLock(lockText(t, lock), &got); err != nil || got.Pull.Num != i {
			t.Fatal(got.Pull.Num, err)
		}
	}
	if bound := 2 * generationBytes / len(lockText(t, lock)); size() > bound || m.bytes > generationBytes {
		t.Errorf("%d entries, and %d bytes in the young generation", size(), m.bytes)
	}
	// The first is forgotten, the last is not; what is asked for stays when a generation ends.
	hold := lockText(t, lock)
	m.age()
	var got models.ProjectLock
	if err := m.decodeLock(hold, &got); err != nil {
		t.Fatal(err)
	}
	m.age()
	if size() != 1 || !m.aging {
		t.Errorf("%d entries after an age in which one was asked for", size())
	}
	m.age()
	if size() != 0 || m.aging {
		t.Errorf("%d entries after an age in which none was asked for", size())
	}
}

func TestMemoIsSafeForMany(t *testing.T) {
	m := new(memo)
	var texts [][]byte
	for i := range 200 {
		lock := benchmarkLock()
		lock.Workspace = fmt.Sprint(i)
		texts = append(texts, lockText(t, lock))
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5_000 {
				i := rand.IntN(len(texts))
				var got models.ProjectLock
				if err := m.decodeLock(texts[i], &got); err != nil || got.Workspace != fmt.Sprint(i) {
					t.Errorf("lock %d: %q, %v", i, got.Workspace, err)
					return
				}
				if i == 0 {
					m.age()
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkMemo is BenchmarkDecodeLock's for a lock that was read before.
func BenchmarkMemo(b *testing.B) {
	text, err := json.Marshal(benchmarkLock())
	if err != nil {
		b.Fatal(err)
	}
	m := new(memo)
	b.ReportAllocs()
	for b.Loop() {
		var lock models.ProjectLock
		if err := m.decodeLock(text, &lock); err != nil {
			b.Fatal(err)
		}
	}
}
