package atlock

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// history is what became of the changes of a database since it was opened.
type history struct {
	mutex      sync.Mutex
	lastChange *Change
	results    map[ChangeResult]int
}

func (h *history) add(change Change) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.lastChange = &change
	if h.results == nil {
		h.results = map[ChangeResult]int{}
	}
	h.results[change.Result]++
}

func (h *history) last() *Change {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.lastChange
}

// addTo adds the counters to metrics in the library's format; to none, if there are none.
func (h *history) addTo(metrics string) string {
	before, found := strings.CutSuffix(metrics, "# EOF\n")
	if !found {
		return metrics
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	text := "# HELP atlock_mode_changes Changes of mode, settings or store of the running server, by how they ended.\n" +
		"# TYPE atlock_mode_changes counter\n"
	for _, result := range []ChangeResult{ChangeDone, ChangeFailed} {
		text += fmt.Sprintf("atlock_mode_changes_total{result=%q} %d\n", result, h.results[result])
	}
	return before + text + "# EOF\n"
}

// encoded is a value as JSON; nil without one. What is encoded here always can be.
func encoded(value any) json.RawMessage {
	if value == nil {
		return nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return text
}

func microsNow() UnixMicro { return UnixMicro(time.Now().UnixMicro()) }
