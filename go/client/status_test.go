package client_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/atlock/atlock/go/client"
)

// What the library writes of hybrid mode has its place here.
func TestStatusOfConflicts(t *testing.T) {
	text := `{"mode":"hybrid","enhanced_enabled":true,"legacy_ops":0,"enhanced_ops":1,"fallback_active":true,"circuit_state":"half-open",` +
		`"fallback_ops":2,"errors":3,"version":"1","instance":"i","cause":"c","since":1,"next_probe":2,"armed":true,"unarmed_because":"u",` +
		`"journal_length":4,"conflicts":[{"key":"k","local_pull":5,"redis_pull":6,"at":1795508220123456}],` +
		`"last_recovery":{"at":7,"duration_ms":8,"pushed":9,"restored":10,"adopted":11,"conflicts":12},"warnings":[]}`
	var status client.Status
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(status); err != nil || string(again) != text {
		t.Errorf("%s became\n%s (%v)", text, again, err)
	}
	if found := status.Conflicts[0].At.Time().UTC().Format(time.RFC3339Nano); found != "2026-11-24T08:17:00.123456Z" {
		t.Errorf("found at %s", found)
	}
}
