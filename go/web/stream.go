package web

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// StreamPath tells a page that something changed.
const StreamPath = PagePath + "/events"

// mostStreams bounds how many pages are told at once: each holds a connection. A page more asks again and again instead.
const mostStreams = 20

var (
	// streamFor bounds a stream: then the browser asks for another, with its login.
	streamFor = 10 * time.Minute
	// beatEvery keeps a proxy from closing a stream on which nothing happens, and finds out who has left.
	beatEvery = 20 * time.Second
)

// streams tells pages that something changed, by server-sent events.
//
// Invariants:
//   - A page is told that, and nothing of what changed: it sees that in the page that it asks for, under the same login.
//   - One goroutine looks for all of them ([watcher]), while somebody listens and not longer.
//   - There are at most mostStreams, each for at most streamFor, and who does not read has the connection closed.
//   - Once the server begins to stop, all have ended, so that it does not wait for them; none begins.
type streams struct {
	ctx     context.Context
	watcher watcher
	forget  func() // lets nobody have a page from before a change

	mutex     sync.Mutex
	listening map[chan struct{}]struct{} // each has room for one word
	stop      context.CancelFunc         // of who looks; nil while nobody listens
}

// newStreams tells pages until the context is over, or stopping is closed.
func newStreams(ctx context.Context, stopping <-chan struct{}, watcher watcher, forget func()) *streams {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-stopping: // nil: never
		case <-ctx.Done():
		}
	}()
	return &streams{ctx: ctx, watcher: watcher, forget: forget, listening: map[chan struct{}]struct{}{}}
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		http.Error(w, "a page of another site listens to nothing here", http.StatusForbidden)
		return
	}
	told := s.join()
	if told == nil {
		tooBusy().send(w)
		return
	}
	defer s.leave(told)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep what is told until there is more
	controller := http.NewResponseController(w)
	tell := func(text string) bool {
		_ = controller.SetWriteDeadline(time.Now().Add(sendWithin)) // a writer that knows none is a test's
		_, err := io.WriteString(w, text)
		return err == nil && controller.Flush() == nil
	}
	if !tell("retry: 5000\n\n") {
		return
	}
	beat, end := time.NewTicker(beatEvery), time.NewTimer(streamFor)
	defer beat.Stop()
	defer end.Stop()
	for going := true; going; {
		select {
		case <-told:
			going = tell("data: changed\n\n")
		case <-beat.C:
			going = tell(":\n\n")
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		case <-end.C:
			return
		}
	}
}

// join takes a place; nil if there is none.
func (s *streams) join() chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.listening) >= mostStreams || s.ctx.Err() != nil {
		return nil
	}
	told := make(chan struct{}, 1)
	told <- struct{}{} // what happened since the page was made is not known
	s.listening[told] = struct{}{}
	if s.stop == nil {
		ctx, stop := context.WithCancel(s.ctx)
		s.stop = stop
		go s.watcher.watch(ctx, s.tell)
	}
	return told
}

func (s *streams) leave(told chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.listening, told)
	if len(s.listening) == 0 {
		s.stop()
		s.stop = nil
	}
}

// tell tells all who listen. Who has not been told of the change before is told of both at once.
func (s *streams) tell() {
	s.forget()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for told := range s.listening {
		select {
		case told <- struct{}{}:
		default:
		}
	}
}
