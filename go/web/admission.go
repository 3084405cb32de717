package web

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// buildsAtOnce are the answers of one kind that are made at once: anybody may ask, and each costs memory, and the stores' time.
	buildsAtOnce = 2
	// questionsAtOnce are the endpoints that answer at once. A workflow that asks meanwhile waits.
	questionsAtOnce = 4
	// mostWait bounds how many wait, and patience how long.
	mostWait = 64
	patience = 2 * time.Second
	// mostKept bounds how many answers are kept for those who ask for the same.
	mostKept = 16
)

var (
	// keepFor is how long an answer is given to whoever asks for the same.
	keepFor = time.Second
	// sendWithin is how long a reader may take for an answer.
	sendWithin = 10 * time.Second
)

// gate lets a few requests in at once, and a few more wait.
//
// Invariant: what these pages and endpoints cost does not grow with the number of those who ask.
type gate struct {
	places  chan struct{}
	waiting chan struct{}
}

func newGate(places, waiting int) *gate {
	return &gate{make(chan struct{}, places), make(chan struct{}, waiting)}
}

// enter tells whether there is a place, which is to be left then. Nobody waits whose context is done.
func (g *gate) enter(ctx context.Context) bool {
	select {
	case g.places <- struct{}{}:
		return true
	default:
	}
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case g.places <- struct{}{}:
		if ctx.Err() != nil {
			g.leave()
		}
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	case <-timer.C:
		return false
	}
}

func (g *gate) leave() { <-g.places }

// admitted lets a handler answer only if it has a place, which a slow reader does not keep.
func (g *gate) admitted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Err() != nil {
			return // nobody is there any more
		}
		if !g.enter(r.Context()) {
			tooBusy().send(w)
			return
		}
		made := newAnswer()
		func() {
			defer g.leave()
			handler.ServeHTTP(made, r)
		}()
		made.send(w)
	})
}

// sharing gives an answer to all who ask for the same within a second: it is made once.
type sharing struct {
	gate    *gate
	handler http.Handler
	// same names the answer: requests of one name have one answer. The names must not be longer than what is kept may be.
	same func(r *http.Request) string

	making singleflight.Group
	mutex  sync.Mutex // of what follows
	kept   map[string]kept
	age    uint64 // grows with each change: what was made before it is not given to those who ask after it
}

type kept struct {
	answer *answer
	until  time.Time
}

func newSharing(handler http.Handler, same func(*http.Request) string) *sharing {
	return &sharing{gate: newGate(buildsAtOnce, 0), handler: handler, same: same, kept: map[string]kept{}}
}

func (s *sharing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Context().Err() != nil {
		return // nobody is there any more
	}
	name := s.same(r)
	found, age := s.find(name)
	if found == nil {
		made := s.making.DoChan(strconv.FormatUint(age, 10)+" "+name, func() (any, error) { return s.make(name, age, r) })
		select {
		case <-r.Context().Done():
			return
		case result := <-made:
			if result.Err != nil {
				panic(result.Err) // here, where the server catches it
			}
			found = result.Val.(*answer)
		}
	}
	found.send(w)
}

// make makes an answer, for whoever asks for it. The one who asked first may leave.
func (s *sharing) make(name string, age uint64, r *http.Request) (made *answer, err error) {
	if !s.gate.enter(r.Context()) {
		return tooBusy(), nil
	}
	defer s.gate.leave()
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("making %s: %v", r.URL.Path, broken)
		}
	}()
	made = newAnswer()
	s.handler.ServeHTTP(made, r.WithContext(context.WithoutCancel(r.Context())))
	s.keep(name, age, made)
	return made, nil
}

func (s *sharing) find(name string) (*answer, uint64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if found, ok := s.kept[name]; ok && time.Now().Before(found.until) {
		return found.answer, s.age
	}
	return nil, s.age
}

func (s *sharing) keep(name string, age uint64, made *answer) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if age != s.age {
		return
	}
	if len(s.kept) >= mostKept {
		clear(s.kept)
	}
	s.kept[name] = kept{made, time.Now().Add(keepFor)}
}

// forget lets nobody who asks from now on have what was made before.
func (s *sharing) forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.age++
	clear(s.kept)
}

// forgettingAfterChanges forgets behind each request that may have changed something, so that who changed it sees that.
func forgettingAfterChanges(all ...*sharing) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				defer func() {
					for _, one := range all {
						one.forget()
					}
				}()
			}
			next.ServeHTTP(w, r)
		})
	}
}

// answer is a whole answer in memory: many readers share one, and whoever reads slowly holds nothing else.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, code: http.StatusOK} }

// tooBusy is the answer of who has no place.
func tooBusy() *answer {
	busy := newAnswer()
	busy.Header().Set("Retry-After", "1")
	http.Error(busy, "too many ask at once: try again in a second", http.StatusServiceUnavailable)
	return busy
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) { a.code = code }

func (a *answer) Write(part []byte) (int, error) { return a.body.Write(part) }

// send passes it on. A reader who takes too long has the connection closed.
func (a *answer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	controller := http.NewResponseController(w)
	_ = controller.SetWriteDeadline(time.Now().Add(sendWithin)) // a writer that knows none is a test's
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes())               // it fails if the client has left
	_ = controller.Flush()                       // so does this; what is behind it has no deadline of ours
	_ = controller.SetWriteDeadline(time.Time{}) // for the next request on the connection
}
