package atlock

import (
	"hash/maphash"
	"sync"
	"time"
	"unsafe"

	"github.com/runatlantis/atlantis/server/events/models"
)

// memo remembers what the texts of locks decoded to. Atlantis reads the same locks again and again: its page lists all of them every few
// seconds, and a plan asks for a lock that nobody has changed.
//
// Invariant: the answer for a text is what decodeLock makes of that very text. Whoever asks brings the text, and each byte of it is compared;
// so a lock that was changed is another text, and nothing has to be told of a change. No two answers share memory that can be written to.
//
// Entries stand in two generations. An entry that is asked for moves to the young one; a young generation that is full takes the place of
// the old one, whose entries are forgotten. So memory is bounded by twice generationBytes, and what nobody asked for during
// generationAge is forgotten before the next one has passed.
//
// The zero value is ready. Any number of goroutines may use a memo at once.
type memo struct {
	mutex      sync.RWMutex
	young, old map[uint64]*memorized
	bytes      int  // of the young generation
	aging      bool // whether age is going to be called
}

type memorized struct {
	text string
	lock models.ProjectLock
}

const (
	// generationBytes is the room of one generation: some ten thousand locks.
	generationBytes = 16 << 20
	generationAge   = 30 * time.Second
)

var memoSeed = maphash.MakeSeed()

// decodeLock is the function decodeLock, remembered.
func (m *memo) decodeLock(text []byte, lock *models.ProjectLock) error {
	hash := maphash.Bytes(memoSeed, text)
	if found := m.find(hash, text); found != nil {
		*lock = copied(&found.lock)
		return nil
	}
	decoded := &memorized{text: string(text)}
	if err := decodeLock(decoded.text, &decoded.lock); err != nil {
		return err
	}
	*lock = copied(&decoded.lock)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.keep(hash, decoded)
	return nil
}

func (m *memo) find(hash uint64, text []byte) *memorized {
	m.mutex.RLock()
	found, isYoung := m.young[hash]
	if !isYoung {
		found = m.old[hash]
	}
	m.mutex.RUnlock()
	if found == nil || found.text != string(text) {
		return nil
	}
	if !isYoung {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.keep(hash, found)
	}
	return found
}

// keep makes an entry a young one.
func (m *memo) keep(hash uint64, entry *memorized) {
	if _, ok := m.young[hash]; ok {
		return
	}
	size := len(entry.text) + int(unsafe.Sizeof(*entry))
	if m.bytes+size > generationBytes {
		m.grow()
	}
	if m.young == nil {
		m.young = map[uint64]*memorized{}
	}
	m.young[hash] = entry
	m.bytes += size
	if !m.aging {
		m.aging = true
		time.AfterFunc(generationAge, m.age)
	}
}

// grow begins another generation.
func (m *memo) grow() {
	m.old, m.young, m.bytes = m.young, nil, 0
}

// age forgets what nobody has asked for lately. It is called again as long as there is something to forget.
func (m *memo) age() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.grow()
	if m.aging = m.old != nil; m.aging {
		time.AfterFunc(generationAge, m.age)
	}
}
