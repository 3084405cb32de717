package client

import (
	"encoding/json"
	"testing"
	"time"
)

func TestATimeThatIsNotZeroStaysSo(t *testing.T) {
	for given, want := range map[time.Duration]int64{
		0: 0, 1: 1, -1: -1, time.Millisecond: 1, time.Millisecond + 1: 2, -time.Millisecond - 1: -2, time.Hour: 3_600_000,
	} {
		if got := milliseconds(given); got != want {
			t.Errorf("%v: %d, want %d", given, got, want)
		}
	}
}

func TestWaitsAreRead(t *testing.T) {
	var set WaitedSet
	const refused = `{"acquired":false,"why":"left","lock":{"a": 1},"queue":{"position":2,"ahead":[{"host":"h","num":7}],"since":5,"why":"set",` +
		`"blocker":{"key":"k","pull":{"host":"","num":3}}}}`
	if err := json.Unmarshal([]byte(refused), &set); err != nil {
		t.Fatal(err)
	}
	queue := set.Queue
	if set.Acquired || set.Why != WaitLeft || string(set.Lock) != `{"a": 1}` || queue.Ahead[0] != (PullID{"h", 7}) || queue.Blocker.Pull.Num != 3 {
		t.Errorf("%+v", set)
	}
	for priority, name := range map[Priority]string{PriorityLow: "low", PriorityCritical: "critical", 4: "Priority(4)", -1: "Priority(-1)"} {
		if priority.String() != name {
			t.Errorf("%d is %s", priority, priority)
		}
	}
	var priority Priority
	if err := json.Unmarshal([]byte(`"high"`), &priority); err != nil || priority != PriorityHigh {
		t.Errorf("%v, %v", priority, err)
	}
	if err := json.Unmarshal([]byte(`"urgent"`), &priority); err == nil {
		t.Error("urgent is a priority")
	}
}
