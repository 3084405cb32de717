package linearizability

import (
	"strings"
	"testing"
	"time"
)

// of makes an operation on the one key of these tests.
func of(begin, end int64, kind kind, pull int, answer answer) operation {
	return operation{request: request{Kind: kind, Key: "key", Pull: pull}, answer: answer, begin: begin, end: end}
}

var (
	granted = answer{Granted: true}
	nobody  = answer{}
)

func is(pull int) answer { return answer{Pull: pull} }

func TestRightHistoriesPass(t *testing.T) {
	for name, history := range map[string][]operation{
		"one after the other": {
			of(1, 2, look, 0, nobody), of(3, 4, take, 1, granted), of(5, 6, take, 2, is(1)), of(7, 8, look, 0, is(1)),
			of(9, 10, releaseOwned, 2, nobody), of(11, 12, releaseOwned, 1, is(1)), of(13, 14, release, 0, nobody), of(15, 16, take, 3, granted),
			of(17, 18, release, 0, is(3)),
		},
		"at once: the answers tell the order":       {of(1, 9, take, 1, is(2)), of(1, 9, take, 2, granted)},
		"an unknown take was made":                  {of(1, stillOpen, take, 1, never), of(3, 4, look, 0, is(1))},
		"an unknown take was never made":            {of(1, stillOpen, take, 1, never), of(3, 4, take, 2, granted), of(5, 6, look, 0, is(2))},
		"an unknown take was made later":            {of(1, stillOpen, take, 1, never), of(3, 4, look, 0, nobody), of(5, 6, look, 0, is(1))},
		"an unknown release lets another in":        {of(1, 2, take, 1, granted), of(3, stillOpen, release, 0, never), of(5, 6, take, 2, granted)},
		"an unknown release of another's does none": {of(1, 2, take, 1, granted), of(3, stillOpen, releaseOwned, 2, never), of(5, 6, look, 0, is(1))},
		"keys have nothing to do with one another":  {of(1, 2, take, 1, granted), {request: request{Kind: look, Key: "other"}, begin: 3, end: 4}},
	} {
		if err := lock.check(history); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongHistoriesAreRejected(t *testing.T) {
	for name, history := range map[string][]operation{
		"granted twice":                     {of(1, 2, take, 1, granted), of(3, 4, take, 2, granted)},
		"granted twice, at once":            {of(1, 9, take, 1, granted), of(1, 9, take, 2, granted)},
		"granted twice beside an unknown":   {of(1, stillOpen, take, 3, never), of(1, 2, take, 1, granted), of(3, 4, take, 2, granted)},
		"released twice":                    {of(1, 2, take, 1, granted), of(3, 9, release, 0, is(1)), of(3, 9, releaseOwned, 1, is(1))},
		"refused though free":               {of(1, 2, take, 1, granted), of(3, 4, release, 0, is(1)), of(5, 6, take, 2, is(1))},
		"another's lock released":           {of(1, 2, take, 1, granted), of(3, 4, releaseOwned, 2, is(1))},
		"a grant is lost":                   {of(1, 2, take, 1, granted), of(3, 4, look, 0, nobody)},
		"a released lock comes back":        {of(1, 2, take, 1, granted), of(3, 4, release, 0, is(1)), of(5, 6, look, 0, is(1))},
		"a stale look":                      {of(1, 2, take, 1, granted), of(3, 4, look, 0, nobody), of(5, 6, look, 0, is(1))},
		"an unknown take is made twice":     {of(1, stillOpen, take, 1, never), of(3, 4, release, 0, is(1)), of(5, 6, release, 0, is(1))},
		"an unknown take before its begin":  {of(1, 2, look, 0, is(1)), of(3, stillOpen, take, 1, never)},
		"wrong later, after much was right": {of(1, 2, take, 1, granted), of(3, 4, release, 0, is(1)), of(5, 6, take, 2, granted), of(7, 8, take, 3, granted), of(9, 10, look, 0, is(3))},
	} {
		if lock.check(history) == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

// The report ends where the history becomes wrong.
func TestStoryEndsWithTheWrongAnswer(t *testing.T) {
	history := []operation{
		of(1, 2, take, 1, granted), of(3, 4, release, 0, is(1)), of(5, 6, take, 2, granted), of(7, 8, take, 3, granted), of(9, 10, look, 0, is(3)),
	}
	err := lock.check(history)
	if err == nil || !strings.HasSuffix(strings.TrimSpace(err.Error()), "take 3 → granted") {
		t.Errorf("got %v", err)
	}
}

// As many keys as are allowed may take too long to be checked, and no more.
func TestKeysThatTakeTooLongAreCounted(t *testing.T) {
	// There is no order, and to see that takes a look at each part of those that are asked at once.
	var history []operation
	for _, key := range []string{"one", "other"} {
		for range 30 {
			history = append(history, of(1, 100, look, 0, nobody))
		}
		history = append(history, of(101, 102, look, 0, is(9)))
		for i := len(history) - 31; i < len(history); i++ {
			history[i].request.Key = key
		}
	}
	hurried := lock
	hurried.patience, hurried.unchecked = time.Millisecond, 1
	if err := hurried.check(history); err != nil {
		t.Errorf("both may: %v", err)
	}
	hurried.unchecked = 0.5
	if err := hurried.check(history); err == nil || !strings.Contains(err.Error(), "too many to be checked") {
		t.Errorf("only one may: %v", err)
	}
}
