package client

import (
	"encoding/json"
	"sync"

	"github.com/atlock/atlock/go/internal/capi"
)

// ShadowStore is which store is the shadow: `locking.shadow.store`.
type ShadowStore string

// The shadows.
const (
	ShadowOff   ShadowStore = "off"
	ShadowSled  ShadowStore = "sled"
	ShadowRedis ShadowStore = "redis"
)

// ShadowState is how a shadow stands.
type ShadowState string

// The states.
const (
	ShadowOpening   ShadowState = "opening"
	ShadowFollowing ShadowState = "following"
	ShadowFailing   ShadowState = "failing"
	ShadowRefused   ShadowState = "refused"
)

// Shadow is the block `locking.shadow`: another store that is written and asked as well, and never believed.
type Shadow struct {
	Store   ShadowStore `json:"store,omitempty"`    // off (the default), sled or redis
	DataDir string      `json:"data_dir,omitempty"` // folder of an embedded store; its own
	Redis   Redis       `json:"redis,omitzero"`     // a Redis, or a database, of its own
	Sample  Duration    `json:"sample,omitzero"`    // the log has one line in so long a time for the differences of that time
}

// IsOn tells whether there is a shadow.
func (s Shadow) IsOn() bool { return s.Store != "" && s.Store != ShadowOff }

// ShadowStatus is how a shadow stands, and what came of the operations that it was told.
type ShadowStatus struct {
	Store       ShadowStore        `json:"store"`
	State       ShadowState        `json:"state"`
	Because     string             `json:"because,omitempty"` // why it does not follow
	InStep      bool               `json:"in_step"`           // whether it has all project locks
	Operations  uint64             `json:"operations"`
	Same        uint64             `json:"same"`
	Different   uint64             `json:"different"`
	Uncertain   uint64             `json:"uncertain"` // operations that crossed, or the first at a key after that: not compared
	Dropped     uint64             `json:"dropped"`   // too many waited: not compared
	Failed      uint64             `json:"failed"`    // the shadow did not answer: not compared
	Waiting     int                `json:"waiting"`
	DecidedMS   float64            `json:"decided_ms"`  // average time of a compared operation in the store that decides
	ShadowMS    float64            `json:"shadow_ms"`   // and in the shadow
	Differences []ShadowDifference `json:"differences"` // the last ones, the newest last
}

// ShadowDifference is an operation on which the shadow decided otherwise.
type ShadowDifference struct {
	At        UnixMicro `json:"at"`
	Operation string    `json:"operation"`
	Key       string    `json:"key"`
	Decided   string    `json:"decided"`
	Shadow    string    `json:"shadow"`
}

// Following is the shadow of a store that the program calls itself. Its methods may be called from any goroutine at once; after Close they do
// nothing.
type Following struct {
	shadow *capi.Shadow
	mutex  sync.RWMutex // held for reading by each call
	closed bool
}

// Follow begins the shadow that the settings name; isRedis: the program's store is their `locking.enhanced.redis`. It waits for no store.
func Follow(config Config, isRedis bool) (*Following, error) {
	settings, err := settingsOf(config)
	if err != nil {
		return nil, err
	}
	shadow, err := capi.OpenShadow(settings, isRedis)
	if err != nil {
		return nil, byKey(err, settings)
	}
	return &Following{shadow: shadow}, nil
}

// Begin tells, before the store is asked, what it is asked: the JSON of atlock_shadow_begin in atlock.h. End must be called with the number; 0 is none.
func (f *Following) Begin(asked []byte) (number uint64) {
	f.run(func() { number, _ = f.shadow.Begin(asked) }) // what cannot be told is not followed
	return number
}

// End tells what was answered: the JSON of atlock_shadow_end.
func (f *Following) End(number uint64, answer []byte) {
	f.run(func() { _ = f.shadow.End(number, answer) }) // it then counts as not known
}

// Status reads how the shadow stands, and what an operator should know; nil after Close.
func (f *Following) Status() (status *ShadowStatus, warning string, err error) {
	f.run(func() {
		var buffer capi.Buffer
		if buffer, err = f.shadow.Status(); err != nil {
			return
		}
		defer buffer.Free()
		told := struct {
			Shadow  *ShadowStatus
			Warning string
		}{}
		err = json.Unmarshal(buffer.Bytes(), &told)
		status, warning = told.Shadow, told.Warning
	})
	return status, warning, err
}

// Metrics reads its metrics, as a text for Prometheus without the end line.
func (f *Following) Metrics() (text string) {
	f.run(func() {
		if buffer, err := f.shadow.Metrics(); err == nil {
			defer buffer.Free()
			text = string(buffer.Bytes())
		}
	})
	return text
}

// Close ends it, within about two seconds. Closing again is harmless.
func (f *Following) Close() {
	if f == nil {
		return
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if !f.closed && f.shadow != nil {
		f.closed = true
		f.shadow.Free()
	}
}

func (f *Following) run(call func()) {
	if f == nil {
		return
	}
	f.mutex.RLock()
	defer f.mutex.RUnlock()
	if !f.closed && f.shadow != nil {
		call()
	}
}
