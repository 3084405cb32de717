package atlock

import (
	"encoding/json"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// How long after a look whether the shadow lacks locks the next one is, at first and in the end.
const (
	firstFill = 50 * time.Millisecond
	lastFill  = 30 * time.Second
)

// defaultSample is the library's default of locking.shadow.sample.
const defaultSample = time.Minute

// shadowing tells a shadow what Atlantis's own store was asked and answered.
//
// Invariant: what is told is told after the answer is there, and changes nothing of it: values are written as JSON before they are handed out,
// a list in a goroutine of its own. A nil *shadowing has no shadow.
type shadowing struct {
	following *client.Following
	watch     *watch
	lists     sync.WaitGroup
	listing   sync.Mutex // held while a list is being told
}

// openShadow begins the shadow that the settings name, or none.
func openShadow(config Config, legacy db.Database) (*shadowing, error) {
	if !config.Locking.Shadow.IsOn() {
		return nil, nil
	}
	// Stock's other store is Redis; what is not known may be it.
	_, isBolt := legacy.(*boltdb.BoltDB)
	following, err := client.Follow(config, !isBolt)
	if err != nil {
		return nil, err
	}
	return &shadowing{following: following}, nil
}

// asked is an operation, in the JSON of atlock_shadow_begin.
type asked struct {
	Operation string          `json:"operation"`
	Key       string          `json:"key,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Pull      *int            `json:"pull,omitempty"`
	Repo      string          `json:"repo,omitempty"`
	Fill      bool            `json:"fill,omitempty"`
	Fragile   bool            `json:"fragile,omitempty"`
}

// said is what an answer says of one entry.
type said any

const (
	nothing   = "nothing"
	something = "something"
	notKnown  = "not_known"
)

// begin tells that an operation begins. The answer is to be told by what it returns, which counts as not known if that is never called.
func (s *shadowing) begin(ask func() asked) *telling {
	if s == nil {
		return nil
	}
	text, err := json.Marshal(ask())
	if err != nil {
		return nil
	}
	return &telling{shadow: s, number: s.following.Begin(text), answer: notKnown}
}

// telling is an operation that the shadow knows of.
type telling struct {
	shadow *shadowing
	number uint64
	answer any
	later  func() any
}

// is sets the answer.
func (t *telling) is(answer func() any) {
	if t != nil {
		t.answer = answer()
	}
}

// isLater has the answer made after the caller has got its own.
func (t *telling) isLater(answer func() any) {
	if t != nil {
		t.later = answer
	}
}

// end tells the answer.
func (t *telling) end() {
	switch {
	case t == nil || t.number == 0:
	case t.later == nil:
		t.shadow.tell(t.number, t.answer)
	case t.shadow.listing.TryLock():
		t.shadow.lists.Go(func() {
			defer t.shadow.listing.Unlock()
			t.shadow.tell(t.number, t.later())
		})
	default:
		t.shadow.tell(t.number, notKnown) // the one before is still being written
	}
}

func (s *shadowing) tell(number uint64, answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		text = []byte(`"not_known"`)
	}
	s.following.End(number, text)
}

// endWatch ends what goes on beside the database.
func (s *shadowing) endWatch() {
	if s != nil {
		s.watch.end()
	}
}

// close ends the shadow, after endWatch.
func (s *shadowing) close() {
	if s != nil {
		s.lists.Wait()
		s.following.Close()
	}
}

// status reads how the shadow stands.
func (s *shadowing) status() (*ShadowStatus, []string, error) {
	if s == nil {
		return nil, nil, nil
	}
	status, warning, err := s.following.Status()
	if warning == "" {
		return status, nil, err
	}
	return status, []string{warning}, err
}

// withMetrics adds the shadow's to a text.
func (s *shadowing) withMetrics(text string) string {
	if s == nil {
		return text
	}
	const end = "# EOF\n"
	return strings.TrimSuffix(text, end) + s.following.Metrics() + end
}

// watchShadow has the shadow filled and its differences logged until it is closed.
func (p *passthrough) watchShadow(sample Duration, logger *slog.Logger) {
	if p.shadow == nil {
		return
	}
	p.shadow.watch = newWatch()
	p.shadow.watch.run(func(stop <-chan struct{}) { p.keepFilled(stop) })
	status := func() *ShadowStatus {
		status, _, _ := p.shadow.status()
		return status
	}
	p.shadow.watch.run(func(stop <-chan struct{}) { logDifferences(status, sample, logger, stop) })
}

// keepFilled shows the shadow all locks whenever it lacks some.
func (p *passthrough) keepFilled(stop <-chan struct{}) {
	for pause := firstFill; ; {
		if status, _, err := p.shadow.status(); err == nil && status != nil && !status.InStep && status.State == client.ShadowFollowing {
			p.fillShadow()
			pause = min(2*pause, lastFill)
		} else {
			pause = firstFill
		}
		select {
		case <-stop:
			return
		case <-time.After(max(pause, time.Second/10)):
		}
	}
}

// fillShadow lists all locks for the shadow alone: nobody's operation.
func (p *passthrough) fillShadow() {
	if p.begin() != nil {
		return
	}
	defer p.open.RUnlock()
	// Stock's List reads the file's memory map after its transaction, and may find anything there. What it does to its callers it must not
	// do for the shadow's sake.
	defer func() { _ = recover() }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	telling := p.shadow.begin(askedOfList(true))
	defer telling.end()
	if locks, err := p.legacy.List(); err == nil {
		telling.is(func() any { return answeredLocks(locks) })
	}
}

// valueOf is a lock as the shadow is told it: always the same bytes, whichever way it came.
func valueOf(lock models.ProjectLock) json.RawMessage {
	lock.Time = lock.Time.UTC()
	value, err := json.Marshal(lock)
	if err != nil {
		return nil // as stock: nothing is stored
	}
	return value
}

func saidOf[T any](entry *T, value func(T) json.RawMessage) said {
	if entry == nil {
		return nothing
	}
	return map[string]json.RawMessage{"this": value(*entry)}
}

func jsonOf[T any](entry T) json.RawMessage {
	value, _ := json.Marshal(entry)
	return value
}

// statusOf is a pull status as it is after it was stored and read.
func statusOf(status models.PullStatus) json.RawMessage {
	var stored models.PullStatus
	if json.Unmarshal(jsonOf(status), &stored) != nil {
		return nil
	}
	return jsonOf(stored)
}

func answeredTry(acquired bool, current models.ProjectLock) any {
	if acquired {
		return "granted"
	}
	return map[string]said{"held": saidOf(&current, valueOf)}
}

func answeredLock(lock *models.ProjectLock, err error) any {
	if err != nil {
		return notKnown
	}
	return map[string]said{"was": saidOf(lock, valueOf)}
}

func answeredLocks(locks []models.ProjectLock) any {
	values := make([]json.RawMessage, len(locks))
	for i, lock := range locks {
		values[i] = valueOf(lock)
	}
	return map[string][]json.RawMessage{"locks": values}
}

func answeredCommand(lock *command.Lock, err error) any {
	if err != nil {
		return notKnown
	}
	return map[string]said{"was": saidOf(lock, jsonOf[command.Lock])}
}

// answeredCommandLocked tells a lock that was taken; who holds it otherwise, stock does not say.
func answeredCommandLocked(_ *command.Lock, err error) any {
	switch resultOf(err) {
	case done:
		return "granted"
	case refused:
		return map[string]said{"held": something}
	default:
		return notKnown
	}
}

func answeredCommandUnlocked(err error) any {
	switch {
	case err == nil:
		return map[string]said{"was": something}
	case resultOf(err) == done:
		return map[string]said{"was": nothing}
	default:
		return notKnown
	}
}

func answeredStatus(status *models.PullStatus, err error) any {
	if err != nil {
		return notKnown
	}
	return map[string]said{"was": saidOf(status, statusOf)}
}

func answeredUpdate(status models.PullStatus, err error) any {
	if err != nil {
		return notKnown
	}
	return map[string]said{"left": saidOf(&status, statusOf)}
}

func answeredDelete(err error) any {
	if err != nil {
		return notKnown
	}
	return map[string]said{"left": nothing}
}

// askedOf names an operation on one entry.
func askedOf(operation operation, key string) func() asked {
	return func() asked { return asked{Operation: operationNames[operation], Key: key} }
}

// askedOfList is told whether a change meanwhile may garble it: stock's BoltDB is read after the transaction.
func askedOfList(fill bool) func() asked {
	return func() asked { return asked{Operation: operationNames[list], Fill: fill, Fragile: true} }
}

func askedOfStatus(operation operation, pull models.PullRequest) func() asked {
	return func() asked {
		key, err := pullKey(pull)
		if err != nil {
			return asked{} // stock refuses it, too
		}
		return asked{Operation: operationNames[operation], Key: key}
	}
}

// watch runs what goes on beside a database until it is closed. A nil *watch runs nothing.
type watch struct {
	stop    chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

func newWatch() *watch { return &watch{stop: make(chan struct{})} }

func (w *watch) run(what func(stop <-chan struct{})) { w.running.Go(func() { what(w.stop) }) }

func (w *watch) end() {
	if w != nil {
		w.once.Do(func() { close(w.stop) })
		w.running.Wait()
	}
}

// logDifferences writes one line to the log for the differences of each time.
func logDifferences(status func() *ShadowStatus, sample Duration, logger *slog.Logger, stop <-chan struct{}) {
	every := time.NewTicker(pauseOf(sample))
	defer every.Stop()
	var told uint64
	for {
		select {
		case <-stop:
			return
		case <-every.C:
		}
		now := status()
		if now == nil || now.Different <= told || len(now.Differences) == 0 {
			continue
		}
		last := slices.MaxFunc(now.Differences, func(a, b ShadowDifference) int { return int(a.At - b.At) })
		logger.Warn("the shadow would have decided otherwise", slog.Uint64("differences", now.Different-told), slog.String("operation", last.Operation),
			slog.String("key", last.Key), slog.String("decided", last.Decided), slog.String("shadow", last.Shadow))
		told = now.Different
	}
}

func pauseOf(sample Duration) time.Duration {
	if sample <= 0 {
		return defaultSample
	}
	return time.Duration(sample)
}
