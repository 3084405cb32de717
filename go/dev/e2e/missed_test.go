//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAMergeWhileTheServerWasDown: nobody tells the server of it afterwards. That is no evidence yet, so nothing is released; explain says what a
// person can do, and the next one is planned then.
func TestAMergeWhileTheServerWasDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, missing)
	for name, scene := range map[string]func(line){
		"unlock": func(l line) {
			l.wantFreedBy(t, "network", fmt.Sprintf("comment `atlantis unlock` in #%d, if nothing of it is applied: its plans are lost", l.first))
			l.wantPlannedByItself(t, l.second, func() { wantUnlocked(t, l.command(t, l.first, "atlantis unlock")) })
		},
		"discard": func(l line) {
			l.wantFreedBy(t, "network", "discard the lock "+quoted(l.key("network"))+" alone on Atlantis's page")
			l.wantPlannedByItself(t, l.second, func() { l.discard(t, "network") })
		},
	} {
		l := newLine(t, w, "acme/missed-"+name)
		last := l.last(t, l.second)
		w.server.Kill()
		w.host.SetAtlantis("")
		l.merge(t, l.first)
		w.restart(t)
		w.host.SetAtlantis(w.server.URL())
		time.Sleep(4 * time.Second) // longer than the server takes to plan who is next
		l.wantHolders(t, map[string]int{"network": l.first})
		if l.last(t, l.second) != last {
			t.Fatal("somebody was planned under a lock that is held")
		}
		scene(l)
	}
}

// missing releases what nobody will release, on evidence that was seen twice, ten minutes apart.
var missing = mode{name: "missing", answers: "strict", settings: func(w *world) ([]string, string) {
	flags, content := withQueueOnSled("auto")(w)
	return flags, strings.TrimSuffix(content, sledsEnd) + ", stale_locks: release" + sledsEnd
}}
